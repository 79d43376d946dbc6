package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/authzd/authzd/api"
	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/mcp/pep"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// A client whose first call keeps the server busy makes our tools/list fail, and
// then its next call is decided as if the tool declared no mapping.
func TestMappingIsNotEvadedByABusyServer(t *testing.T) {
	t.Parallel()
	value := func(text string) rar.Value {
		v, err := rar.DecodeStrict([]byte(text), rar.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	snapshot, _, err := engine.Compile(t.Context(), []engine.Bundle{{
		Name: "main", Revision: "r1", Roots: []string{""},
		Metadata: value(`{"contract": 1, "declared_mappings": "verified_subject"}`),
		Modules: []engine.Module{{Path: "policy.rego", Text: `package authz

permit["any"] := {}

forbid["accounts"] := {} if {
	input.resource.type == "account"
	input.resource.id == "of-bob"
}
`}},
		Data: value(`{"authzd_tools": {"open": {"arguments": {"type": "object", "properties": {"account": {"type": "string"}}}}}}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Options{})
	e.Swap(snapshot)
	service, err := api.New(api.Options{Engine: e})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _ = service.RunLocal(ctx) }()
	now := time.Now()
	enforcer, err := pep.New(pep.Options{Decider: service.Local(), Server: "srv", Timeout: 500 * time.Millisecond, ToolsTTL: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	clientR, client := io.Pipe()
	outR, outW := io.Pipe()
	serverR, serverW := io.Pipe()
	answerR, answer := io.Pipe()
	pipe, err := pep.NewPipe(pep.PipeOptions{
		Enforcer: enforcer, ClientIn: clientR, ClientOut: outW, ServerIn: serverW, ServerOut: answerR,
		Identify: func(context.Context) ([]*authzdv1.Credential, *authzdv1.Subject, error) {
			return []*authzdv1.Credential{{Id: "c", Claims: fmt.Appendf(nil, `{"iss":"i","sub":"alice","aud":"srv","exp":%d,"client_id":"a"}`, now.Add(time.Hour).Unix())}}, nil, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = pipe.Run(ctx) }()
	toServer, toClient := bufio.NewReader(serverR), bufio.NewReader(outR)
	call := `{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"open","arguments":{"account":"of-bob"}}}` + "\n"
	const list = `{"tools":[{"name":"open","inputSchema":{"type":"object","x-authzen-mapping":{"evaluation":{
		"subject":{"type":"identity","id":"$token.sub"},"action":{"name":"open"},"resource":{"type":"account","id":"$params.arguments.account"},"context":{"agent":"$token.client_id"}}}}}]}`
	// The control: with its mapping the call is denied.
	_, _ = fmt.Fprintf(client, call, 1)
	line, _ := toServer.ReadString('\n')
	var ask struct{ ID json.RawMessage }
	if err := json.Unmarshal([]byte(line), &ask); err != nil || !strings.Contains(line, "tools/list") {
		t.Fatal(line, err)
	}
	_, _ = fmt.Fprintf(answer, `{"jsonrpc":"2.0","id":%s,"result":%s}`+"\n", ask.ID, strings.ReplaceAll(list, "\n", ""))
	if got, _ := toClient.ReadString('\n'); !strings.Contains(got, `"isError":true`) {
		t.Fatalf("with the mapping: %s", got)
	}
	// The server says that its tools are others now, and then is busy.
	_, _ = fmt.Fprintln(answer, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
	_, _ = toClient.ReadString('\n')
	_, _ = fmt.Fprintf(client, call, 2)
	line, _ = toServer.ReadString('\n') // our tools/list, which nobody answers
	if !strings.Contains(line, "tools/list") {
		t.Fatal(line)
	}
	got := make(chan string, 2)
	go func() { line, _ := toServer.ReadString('\n'); got <- "the server is sent " + line }()
	go func() { line, _ := toClient.ReadString('\n'); got <- "the client is sent " + line }()
	if said := <-got; strings.Contains(said, "the server is sent") {
		t.Errorf("while the declared mapping is not to be had, %s", said)
	}
}
