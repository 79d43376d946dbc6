package mcp_test

import (
	"fmt"

	"github.com/authzd/authzd/mcp"
	"github.com/authzd/authzd/rar"
)

// A server denies a payment for want of authorization_details. Over HTTP the
// client gets a challenge, over stdio a result with a hint.
func ExampleRender() {
	details, err := rar.DecodeStrict([]byte(`[{"type":"payment_initiation","actions":["initiate"]}]`), rar.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	d := mcp.Denial{
		Remediation:     mcp.Available,
		Message:         "This payment needs your consent.",
		Remedies:        []mcp.Remedy{mcp.AuthorizationDetailsRemedy{AuthorizationDetails: details, SingleUse: true}},
		Request:         mcp.Request{Method: "tools/call", ToolName: "payments.initiate"},
		ProtocolVersion: "2026-07-28",
	}
	for _, transport := range []string{mcp.TransportHTTP, mcp.TransportStdio} {
		d.Transport = transport
		resp, err := mcp.Render(d)
		if err != nil {
			fmt.Println(err)
		}
		fmt.Println(transport, resp.HTTPStatus)
		for _, h := range resp.Headers {
			fmt.Println(h.Name+":", h.Value)
		}
		if resp.Result.Kind() != rar.Absent {
			fmt.Println(string(resp.Result.AppendJSON(nil)))
		}
	}
	// Output:
	// http 401
	// WWW-Authenticate: Bearer error="insufficient_authorization", authorization_remediation="eyJhdXRob3JpemF0aW9uX2RldGFpbHMiOlt7InR5cGUiOiJwYXltZW50X2luaXRpYXRpb24iLCJhY3Rpb25zIjpbImluaXRpYXRlIl19XX0", error_description="This payment needs your consent."
	// Cache-Control: no-store
	// stdio 0
	// {"resultType":"complete","content":[{"type":"text","text":"This payment needs your consent."}],"isError":true,"_meta":{"io.modelcontextprotocol/authorization":{"reason":"insufficient_authorization","remediation":"available","remediationHints":[{"type":"authorization_remediation","authorization_details":[{"type":"payment_initiation","actions":["initiate"]}]}]}}}
}

// The default mapping names subject, action and resource of a message.
func ExampleMap() {
	params, err := rar.DecodeStrict([]byte(`{"name":"payments.initiate","arguments":{"amount":"123.50"}}`), rar.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := mcp.Map("tools/call", params, mcp.MapOptions{})
	fmt.Println(m.Action, m.ResourceType, m.ResourceID, err)
	_, err = mcp.Map("acme/doThing", params, mcp.MapOptions{})
	fmt.Println(err)
	// Output:
	// tools/call tool payments.initiate <nil>
	// mcp.method_unknown at /method: no mapping for this method
}
