package pep_test

import (
	"log"
	"net/http"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/authzd/authzd/mcp/pep"
)

// A server over HTTP whose access tokens authzd verifies.
func ExampleEnforcer_Attach() {
	const resource = "https://mcp.example.com/mcp"
	conn, err := grpc.NewClient("127.0.0.1:8182", append(pep.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		log.Fatal(err)
	}
	enforcer, err := pep.New(pep.Options{Decider: pep.NewClient(conn), Server: resource})
	if err != nil {
		log.Fatal(err)
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "reports", Version: "1.0.0"}, nil)
	// mcp.AddTool(server, ...)
	enforcer.Attach(server, pep.MiddlewareOptions{Identify: pep.WithProofs(resource)})
	sdk := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})
	http.Handle("/mcp", enforcer.HTTPHandler(sdk))
}
