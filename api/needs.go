package api

import (
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"

	"github.com/authzd/authzd/api/callers"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

// need is what a method asks of its caller. The zero need is of a method that
// does not exist.
type need struct {
	known bool
	// open: nobody is asked who they are.
	open bool
	// right is what the caller must have; 0: to be known is enough.
	right callers.Rights
	// changes: it may have changed something once it is answered, so its answer is given.
	changes bool
}

// decides tells whether its calls take places of the pool.
func (n need) decides() bool { return n.right == callers.Check || n.right == callers.Explain }

// Paths that have no gRPC method.
const (
	pathHealth  = "/healthz"
	pathReady   = "/readyz"
	pathMetrics = "/metrics"
	pathOpenAPI = "/openapi.json"
	pathBundles = "/v1/bundles"
	pathBundle  = pathBundles + "/{name}"
	pathBlocks  = "/v1/blocks"
	// pathDownload follows the path of a bundle.
	pathDownload = "/archive"
	pathBlock    = pathBlocks + "/{id}"
	// pathData follows the path of a bundle, before that of a document.
	pathData = "/data"
	// pathArchive is the bundle protocol of OPA.
	pathArchive = pathArchives + "{name}" + archiveSuffix
)

// needOf is the table of all methods of both doors. What is not in it is not
// served. A test holds it against what is registered.
func needOf(method string) need {
	switch method {
	case authzdv1.DecisionService_Check_FullMethodName,
		authzdv1.DecisionService_CheckBatch_FullMethodName:
		return need{known: true, right: callers.Check, changes: true} // a commit takes what may be used once
	case authzdv1.DecisionService_FilterTools_FullMethodName,
		authzdv1.AuthorizationDetailsService_Compare_FullMethodName,
		authzdv1.AuthorizationDetailsService_Validate_FullMethodName,
		authzdv1.AuthorizationDetailsService_Plan_FullMethodName,
		authzdv1.AuthorizationDetailsService_ListTypes_FullMethodName:
		return need{known: true, right: callers.Check}
	case authzdv1.DecisionService_Explain_FullMethodName:
		return need{known: true, right: callers.Explain}
	case authzdv1.BundleService_PushBundle_FullMethodName:
		return need{known: true, right: callers.Push, changes: true}
	case authzdv1.BundleService_ChangeData_FullMethodName:
		return need{known: true, right: callers.Data, changes: true}
	case authzdv1.BundleService_ActivateBundle_FullMethodName,
		authzdv1.BundleService_RollbackBundle_FullMethodName:
		return need{known: true, right: callers.Activate, changes: true}
	case authzdv1.BlockService_CreateBlock_FullMethodName,
		authzdv1.BlockService_LiftBlock_FullMethodName:
		return need{known: true, right: callers.Admin, changes: true}
	case pathMetrics, pathArchive,
		authzdv1.BlockService_ListBlocks_FullMethodName,
		authzdv1.BundleService_ListBundles_FullMethodName,
		authzdv1.BundleService_GetBundle_FullMethodName,
		authzdv1.BundleService_GetData_FullMethodName,
		authzdv1.BundleService_DownloadBundle_FullMethodName,
		authzdv1.BundleService_WatchBundles_FullMethodName:
		return need{known: true, right: callers.Audit}
	case pathHealth, pathReady,
		grpc_health_v1.Health_Check_FullMethodName,
		grpc_health_v1.Health_List_FullMethodName,
		grpc_health_v1.Health_Watch_FullMethodName:
		// Probes have no key, and learn no more than up or down.
		return need{known: true, open: true}
	case pathOpenAPI,
		grpc_reflection_v1.ServerReflection_ServerReflectionInfo_FullMethodName,
		grpc_reflection_v1alpha.ServerReflection_ServerReflectionInfo_FullMethodName:
		return need{known: true}
	}
	return need{}
}
