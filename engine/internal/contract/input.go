package contract

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/authzd/authzd/rar"
)

// inputSchema describes the input document (contract, "input") in the terms
// that this package reads. Required is what the engine always writes: all of
// the top but mcp; of mcp, which only an MCP message has, what the contract
// lets a forbid read (method, params.name, and arguments, {} when left out).
// A schema of {} is free-form.
const inputSchema = `{
	"type": "object", "additionalProperties": false,
	"required": ["subject", "action", "resource", "context", "mcp", "credentials", "rejected_credentials", "tenant", "now"],
	"properties": {
		"subject": {"$ref": "#/$defs/entity"},
		"action": {
			"type": "object", "additionalProperties": false, "required": ["name", "properties"],
			"properties": {"name": {"type": "string"}, "properties": {"$ref": "#/$defs/free"}}
		},
		"resource": {"$ref": "#/$defs/entity"},
		"context": {"$ref": "#/$defs/free"},
		"mcp": {
			"type": "object", "additionalProperties": false, "required": ["method", "params"],
			"properties": {
				"method": {"type": "string"},
				"params": {
					"type": "object", "additionalProperties": true, "required": ["name", "arguments"],
					"properties": {"name": {"type": "string"}, "arguments": {"$ref": "#/$defs/free"}}
				},
				"tool": {},
				"server": {"type": "string"}, "transport": {"type": "string"}, "protocol_version": {"type": "string"}
			}
		},
		"credentials": {"type": "array", "items": {"$ref": "#/$defs/credential"}},
		"rejected_credentials": {
			"type": "array",
			"items": {
				"type": "object", "additionalProperties": false, "required": ["id", "code"],
				"properties": {"id": {"type": "string"}, "code": {"type": "string"}}
			}
		},
		"tenant": {"type": "string"},
		"now": {"type": "string"}
	},
	"$defs": {
		"free": {"type": "object", "additionalProperties": true},
		"texts": {"type": "array", "items": {"type": "string"}},
		"entity": {
			"type": "object", "additionalProperties": false, "required": ["type", "id", "properties"],
			"properties": {"type": {"type": "string"}, "id": {"type": "string"}, "properties": {"$ref": "#/$defs/free"}}
		},
		"credential": {
			"type": "object", "additionalProperties": false,
			"required": ["id", "verified_by", "issuer", "subject", "client_id", "subject_is_client", "audience", "scopes",
				"authorization_details", "actors", "auth", "expires_at", "bound_by"],
			"properties": {
				"id": {"type": "string"}, "verified_by": {"type": "string"}, "issuer": {"type": "string"},
				"subject": {"type": "string"}, "subject_is_client": {"type": "boolean"}, "client_id": {"type": "string"},
				"client": {"$ref": "#/$defs/free"},
				"audience": {"$ref": "#/$defs/texts"}, "scopes": {"$ref": "#/$defs/texts"},
				"authorization_details": {
					"type": "array",
					"items": {"type": "object", "additionalProperties": true, "required": ["type"], "properties": {"type": {"type": "string"}}}
				},
				"actors": {
					"type": "array",
					"items": {
						"type": "object", "additionalProperties": true, "required": ["issuer", "subject"],
						"properties": {"issuer": {"type": "string"}, "subject": {"type": "string"}}
					}
				},
				"may_act": {}, "grant": {}, "claims": {"$ref": "#/$defs/free"},
				"auth": {
					"type": "object", "additionalProperties": false, "required": ["amr"],
					"properties": {"time": {"type": "string"}, "acr": {"type": "string"}, "amr": {"$ref": "#/$defs/texts"}}
				},
				"txn": {"type": "string"}, "token_id": {"type": "string"}, "tenant": {"type": "string"},
				"issued_at": {"type": "string"}, "expires_at": {"type": "string"}, "bound_by": {"type": "string"}
			}
		}
	}
}`

// schemas is what is known of input.
type schemas struct {
	input *schemaDoc
	tools []toolDoc
	// known keeps what was asked of the tools: a policy reads few paths often.
	known map[string]answer
}

type answer struct {
	reasons    []string
	undeclared bool
}

type toolDoc struct {
	name string
	doc  *schemaDoc
}

// untyped stands for a tool of which nothing is declared.
func untyped() toolDoc {
	return toolDoc{doc: newSchemaDoc(rar.ObjectValue(
		rar.Member{Name: "type", Value: rar.StringValue("object")},
		rar.Member{Name: "additionalProperties", Value: rar.BoolValue(true)},
	))}
}

func newSchemas(in Input) *schemas {
	doc, err := rar.DecodeStrict([]byte(inputSchema), rar.Limits{})
	s := &schemas{input: newSchemaDoc(doc), known: make(map[string]answer)}
	if err != nil {
		// Cannot be (a test decodes it); then nothing is known to be present.
		s.input = untyped().doc
	}
	s.input.open = true
	for _, t := range in.Tools {
		s.tools = append(s.tools, toolDoc{t.Name, newSchemaDoc(t.Arguments)})
	}
	slices.SortFunc(s.tools, func(a, b toolDoc) int { return strings.Compare(a.name, b.name) })
	// Without any declared tool, every tool is known by its query only.
	if in.UntypedTools || len(s.tools) == 0 {
		s.tools = append(s.tools, untyped())
	}
	return s
}

// argumentsPath is where tools' arguments lie in input.
func argumentsPath() []step {
	return []step{{name: "mcp"}, {name: "params"}, {name: "arguments"}}
}

func belowArguments(path []step) bool {
	prefix := argumentsPath()
	return len(path) > len(prefix) && slices.Equal(path[:len(prefix)], prefix)
}

// doubtsAbout tells why a path of input may lead nowhere. undeclared: no tool
// has it.
func (s *schemas) doubtsAbout(o origin) (reasons []string, undeclared bool) {
	path := o.steps
	if o.soft > 0 && o.soft < len(path) && path[o.soft].kind != stepEach {
		return []string{"it looks into a value that object.get may have defaulted: give object.get the whole path"}, false
	}
	if !belowArguments(path) {
		p := s.input.at(path, o.soft)
		return doubtText(p, "input"), p.undeclared
	}
	key := strconv.Itoa(o.soft) + pathText(path)
	a, ok := s.known[key]
	if !ok {
		a = s.ask(path, o.soft)
		s.known[key] = a
	}
	return a.reasons, a.undeclared
}

// ask looks at a path below the arguments in every tool.
func (s *schemas) ask(path []step, soft int) answer {
	a := answer{undeclared: true}
	for _, t := range s.tools {
		p := t.presence(path, soft)
		if p.undeclared {
			continue
		}
		a.undeclared = false
		if p.doubt != 0 {
			a.reasons = append(a.reasons, t.reason(p.doubt))
		}
	}
	return a
}

// longer tells whether some tool may have a list at a path that is longer than
// one and has no fixed form.
func (s *schemas) longer(path []step) bool {
	n := len(argumentsPath())
	return len(path) > n && slices.ContainsFunc(s.tools, func(t toolDoc) bool { return t.doc.longer(path[n:]) })
}

func (t toolDoc) presence(path []step, soft int) presence {
	n := len(argumentsPath())
	return t.doc.at(path[n:], max(0, soft-n))
}

func (t toolDoc) reason(d doubt) string {
	name := fmt.Sprintf("tool %q", t.name)
	if t.name == "" {
		name = "a tool without a declared schema"
	}
	return name + " " + doubtOf(d)
}

func doubtText(p presence, name string) []string {
	switch {
	case p.undeclared:
		return []string{name + " has no such member"}
	case p.doubt != 0:
		return []string{name + " " + doubtOf(p.doubt)}
	}
	return nil
}

// doubtOf names the first reason, which is the one to mend first.
func doubtOf(d doubt) string {
	switch {
	case d&doubtDynamic != 0:
		return "may lack it: its name is only known at run time"
	case d&doubtUnknown != 0:
		return "does not declare it"
	case d&doubtAbsent != 0:
		return "may leave it out"
	case d&doubtForm != 0:
		return "may have it in another form"
	case d&doubtNull != 0:
		return "may have null in it"
	}
	return "may lack it"
}
