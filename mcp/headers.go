package mcp

import (
	"encoding/base64"
	"strings"

	"github.com/authzd/authzd/rar"
)

// Checked is what a message says of itself once [CheckHeaders] has found header
// and body at one. Decide on this, and forward the same bytes.
type Checked struct {
	Method string
	// Name is what Mcp-Name names: the tool, the prompt, the URI or the task;
	// empty for other methods.
	Name string
	// ProtocolVersion is the header's for revisions before 2026-07-28; there it
	// may be empty.
	ProtocolVersion string
	// ClientCapabilities are those of this request. Absent before 2026-07-28,
	// where they come from initialize.
	ClientCapabilities rar.Value
}

// ParamHeader says that one argument of a tool is repeated in a header.
type ParamHeader struct {
	// Pointer is a JSON Pointer into params.arguments.
	Pointer string
	// Header is the name behind Mcp-Param-.
	Header string
}

const (
	headerVersion = "MCP-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"
	headerParam   = "Mcp-Param-"
)

// CheckHeaders compares the header fields of a streamable HTTP request with its
// body, a decoded JSON-RPC request or notification, before anything is decided:
// whoever decides by the one and runs the other can be made to authorize one
// tool and run another. The params are those of [ParamHeaders] for the called
// tool; without them Mcp-Param-* fields prove nothing and must not be used.
//
// It applies to 2026-07-28 and later, if header or body says so. For older
// revisions the fields prove nothing; what they say is then not looked at, and
// the body alone counts.
//
// The error is an *Error: CodeHeaderMismatch, or CodeMessageInvalid for a body
// that is not a message of its revision.
func CheckHeaders(headers []Header, body rar.Value, params []ParamHeader) (Checked, error) {
	method, ok := text(body, "method")
	if !ok {
		return Checked{}, fail(CodeMessageInvalid, "/method", "method is required")
	}
	arguments, err := paramsOf(body)
	if err != nil {
		return Checked{}, err
	}
	meta, _ := arguments.Get("_meta")
	headerSays, err := field(headers, headerVersion)
	if err != nil {
		return Checked{}, err
	}
	bodySays, inBody := text(meta, metaProtocolVersion)
	if revisionOf(headerSays) != revision2026 && revisionOf(bodySays) != revision2026 {
		return Checked{Method: method, Name: nameOf(method, arguments), ProtocolVersion: headerSays}, nil
	}
	// A notification need not describe its sender.
	if !inBody && !strings.HasPrefix(method, "notifications/") {
		return Checked{}, fail(CodeMessageInvalid, "/params/_meta/io.modelcontextprotocol~1protocolVersion", "protocol version is required")
	}
	if inBody && headerSays != bodySays {
		return Checked{}, mismatch(headerVersion)
	}
	caps, present := meta.Get(metaCapabilities)
	switch {
	case present && caps.Kind() != rar.Object:
		return Checked{}, fail(CodeMessageInvalid, "/params/_meta/io.modelcontextprotocol~1clientCapabilities", "client capabilities are not an object")
	case !present && !strings.HasPrefix(method, "notifications/"):
		return Checked{}, fail(CodeMessageInvalid, "/params/_meta/io.modelcontextprotocol~1clientCapabilities", "client capabilities are required")
	}
	if said, err := field(headers, headerMethod); err != nil || said != method {
		return Checked{}, mismatch(headerMethod)
	}
	name, err := checkName(headers, method, arguments)
	if err != nil {
		return Checked{}, err
	}
	if err := checkParams(headers, arguments, params); err != nil {
		return Checked{}, err
	}
	return Checked{Method: method, Name: name, ProtocolVersion: headerSays, ClientCapabilities: caps}, nil
}

// paramsOf gives the params, an empty object if there are none.
func paramsOf(body rar.Value) (rar.Value, error) {
	params, present := body.Get("params")
	switch {
	case !present:
		return object(), nil
	case params.Kind() != rar.Object:
		return rar.Value{}, fail(CodeMessageInvalid, "/params", "params are not an object")
	}
	return params, nil
}

// nameMember tells which member of params Mcp-Name repeats.
func nameMember(method string) string {
	switch method {
	case methodToolsCall, methodPromptsGet:
		return "name"
	case methodResourcesRead:
		return "uri"
	case "tasks/get", "tasks/update", "tasks/cancel":
		return "taskId"
	default:
		return ""
	}
}

func nameOf(method string, params rar.Value) string {
	name, _ := text(params, nameMember(method))
	return name
}

func checkName(headers []Header, method string, params rar.Value) (string, error) {
	said, err := field(headers, headerName)
	if err != nil {
		return "", err
	}
	key := nameMember(method)
	if key == "" {
		// Nothing in the body could bear it out.
		if said != "" {
			return "", mismatch(headerName)
		}
		return "", nil
	}
	name, ok := text(params, key)
	if !ok {
		return "", fail(CodeMessageInvalid, "/params/"+key, key+" is not a string")
	}
	if decoded, ok := decodeField(said); said == "" || !ok || decoded != name {
		return "", mismatch(headerName)
	}
	return name, nil
}

// checkParams: a value in the body needs its header, a header its value.
// Fields that the tool does not annotate are none of ours.
func checkParams(headers []Header, params rar.Value, want []ParamHeader) error {
	arguments, _ := params.Get("arguments")
	for _, p := range want {
		name := headerParam + p.Header
		said, present, err := lookupField(headers, name)
		if err != nil {
			return err
		}
		value, found := arguments.Lookup(p.Pointer)
		if !found || value.Kind() == rar.Null {
			if present {
				return mismatch(name)
			}
			continue
		}
		decoded, ok := decodeField(said)
		if !present || !ok || !sameValue(decoded, value) {
			return mismatch(name)
		}
	}
	return nil
}

// sameValue: strings exactly, numbers by value. Arrays and objects have no form
// in a header.
func sameValue(said string, v rar.Value) bool {
	switch v.Kind() {
	case rar.String:
		return said == v.Text()
	case rar.Number:
		n, _ := rar.NumberValue(said) // Absent if it is none
		return rar.Equal(n, v)
	case rar.Bool:
		return said == "true" && v.Bool() || said == "false" && !v.Bool()
	case rar.Absent, rar.Null, rar.Array, rar.Object:
		return false
	default:
		return false
	}
}

// field gives the value of the one field of that name, "" for none.
func field(headers []Header, name string) (string, error) {
	value, _, err := lookupField(headers, name)
	return value, err
}

// lookupField refuses a field that is repeated, since the next reader may take
// the other one, and characters that MCP wants encoded.
func lookupField(headers []Header, name string) (value string, present bool, err error) {
	for _, h := range headers {
		if !strings.EqualFold(h.Name, name) {
			continue
		}
		if present {
			return "", false, fail(CodeHeaderMismatch, "", "header "+name+" is repeated")
		}
		value, present = strings.Trim(h.Value, " \t"), true
		for i := range len(value) {
			if value[i] < ' ' && value[i] != '\t' || value[i] > '~' {
				return "", false, fail(CodeHeaderMismatch, "", "header "+name+" has characters that must be encoded")
			}
		}
	}
	return value, present, nil
}

// decodeField undoes =?base64?…?=. The marker is lower case; anything else is
// taken as it is.
func decodeField(s string) (string, bool) {
	const prefix, suffix = "=?base64?", "?="
	encoded, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return s, true
	}
	encoded, ok = strings.CutSuffix(encoded, suffix)
	if !ok {
		return s, true
	}
	decoded, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return "", false
	}
	return string(decoded), true
}

func mismatch(name string) error {
	return fail(CodeHeaderMismatch, "", "header "+name+" does not match the body")
}
