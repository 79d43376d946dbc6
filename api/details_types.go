package api

import (
	"context"

	"github.com/authzd/authzd/engine"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// ListTypes describes the types of the live snapshot.
func (d *detailsService) ListTypes(ctx context.Context, m *authzdv1.ListTypesRequest) (*authzdv1.ListTypesResponse, error) {
	return onSnapshot(ctx, d.server, func(s *engine.Snapshot) (*authzdv1.ListTypesResponse, error) {
		return ListTypes(s, m, d.server.opts.Denial, d.server.opts.Limits)
	})
}

// ListTypes answers AuthorizationDetailsService.ListTypes for s. Errors are
// those of CompareDetails.
func ListTypes(s *engine.Snapshot, m *authzdv1.ListTypesRequest, o DenialOptions, l Limits) (*authzdv1.ListTypesResponse, error) {
	if err := checkKnown(m.ProtoReflect(), ""); err != nil {
		return nil, err
	}
	w := wire{limits: l.withDefaults()}
	resource := w.text(m.GetResource(), "", "resource")
	if w.err != nil {
		return nil, w.err
	}
	return &authzdv1.ListTypesResponse{
		Tenant: engine.DefaultTenant, Policy: policyProto(s.Policy()),
		AuthorizationDetailsTypesSupported: validAll(s.Types().Names()),
		TypesMetadata:                      s.Types().Metadata().AppendJSON(nil),
		ResourceMetadata:                   o.resourceMembers(s, resource).AppendJSON(nil),
	}, nil
}

// resourceMembers are the members of RFC 9728 metadata that follow from policy.
func (o DenialOptions) resourceMembers(s *engine.Snapshot, resource string) rar.Value {
	var members []rar.Member
	add := func(name string, list []string) {
		if len(list) > 0 {
			members = append(members, rar.Member{Name: name, Value: stringsValue(list)})
		}
	}
	if resource != "" {
		members = append(members, rar.Member{Name: "resource", Value: rar.StringValue(resource)})
	}
	asks := s.Asks()
	add("scopes_supported", asks.Scopes)
	add("authorization_details_types_supported", s.Types().Names())
	// A denial challenges in a header, and a token is to come in one.
	add("bearer_methods_supported", []string{"header"})
	if asks.ProofOfPossession {
		add("dpop_signing_alg_values_supported", o.proofAlgs())
	}
	return rar.ObjectValue(members...)
}

func stringsValue(list []string) rar.Value {
	values := make([]rar.Value, len(list))
	for i, s := range list {
		values[i] = rar.StringValue(s)
	}
	return rar.ArrayValue(values...)
}

func validAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = valid(s)
	}
	return out
}
