package engine

import (
	"fmt"
	"time"
)

// BlockKind says what a block is about.
type BlockKind string

// The kinds of blocks.
const (
	// BlockSubject is a person or a service, by id, or by issuer and id.
	BlockSubject BlockKind = "subject"
	// BlockAgent is the agent that acts for the subject: context.agent.
	BlockAgent BlockKind = "agent"
	// BlockClient is an OAuth client that a usable credential was issued to, or
	// that stands in its chain of actors.
	BlockClient BlockKind = "client"
	// BlockTool is a tool, by the name that calls give it.
	BlockTool BlockKind = "tool"
	// BlockTenant is a tenant: the caller's, or that of a usable credential.
	BlockTenant BlockKind = "tenant"
)

// Valid tells whether k is one of the kinds.
func (k BlockKind) Valid() bool {
	switch k {
	case BlockSubject, BlockAgent, BlockClient, BlockTool, BlockTenant:
		return true
	}
	return false
}

const (
	// MaxBlocks bounds what is blocked at one time.
	MaxBlocks = 10000
	// MaxBlockList bounds the list, blocks that have ended included: they hold
	// again if the clock is set back.
	MaxBlockList = 2 * MaxBlocks
	// MaxBlockText bounds each text of a block, in bytes.
	MaxBlockText = 2048
)

// Codes of changes of a block list that come to nothing.
const (
	// CodeBlocksFull is of more than MaxBlocks, or a list of more than
	// MaxBlockList.
	CodeBlocksFull Code = "engine.blocks_full"
	// CodeBlockNotFound is of a block to lift that is not there.
	CodeBlockNotFound Code = "engine.block_not_found"
	// CodeBlocksUnavailable is of a server that keeps no list.
	CodeBlocksUnavailable Code = "engine.blocks_unavailable"
)

// Block denies whatever is asked about its target until a time, whatever policy
// says. Targets are compared byte by byte.
type Block struct {
	// ID names the block in decisions and records.
	ID    string
	Kind  BlockKind
	Value string
	// Issuer narrows a BlockSubject to the subject of one issuer. A subject of
	// which no issuer is known is taken for that one too.
	Issuer string
	// Until is when the block ends, by the engine's clock.
	Until time.Time
	// Why is for administrators, never for the client.
	Why string
}

// Valid tells what is wrong with b, by an *Error.
func (b *Block) Valid() error {
	switch {
	case b.ID == "":
		return errorf(CodeMissingMember, "/id", "a block needs an id")
	case !b.Kind.Valid():
		return errorf(CodeInvalidValue, "/kind", `is "subject", "agent", "client", "tool" or "tenant"`)
	case b.Value == "":
		return errorf(CodeMissingMember, "/value", "a block needs what it blocks")
	case b.Issuer != "" && b.Kind != BlockSubject:
		return errorf(CodeInvalidValue, "/issuer", "only a subject has an issuer")
	case b.Until.IsZero():
		return errorf(CodeMissingMember, "/until", "a block needs an end")
	}
	for path, text := range map[string]string{"/id": b.ID, "/value": b.Value, "/issuer": b.Issuer, "/why": b.Why} {
		if len(text) > MaxBlockText {
			return errorf(CodeInvalidValue, path, "has more than %d bytes", MaxBlockText)
		}
	}
	return nil
}

// blocks is a block list, never changed after it was published.
type blocks map[blockTarget][]Block

type blockTarget struct {
	kind  BlockKind
	value string
}

// SetBlocks replaces the block list for decisions from now on, those on older
// snapshots included. Whether a block has ended is looked at by each decision.
// On an error the list stays as it was.
func (e *Engine) SetBlocks(list []Block) error {
	if len(list) > MaxBlockList {
		return errorf(CodeBlocksFull, "", "a list of %d blocks where %d are possible", len(list), MaxBlockList)
	}
	next := make(blocks, len(list))
	for i := range list {
		if err := list[i].Valid(); err != nil {
			return err
		}
		at := blockTarget{list[i].Kind, list[i].Value}
		next[at] = append(next[at], list[i])
	}
	e.blocks.Store(&next)
	return nil
}

// blockList is the list of now, which may be nil.
func (e *Engine) blockList() blocks {
	if list := e.blocks.Load(); list != nil {
		return *list
	}
	return nil
}

// holds finds a block of the target that has not ended.
func (l blocks) holds(kind BlockKind, value string, now time.Time) *Block {
	of := l[blockTarget{kind, value}]
	for i := range of {
		if now.Before(of[i].Until) {
			return &of[i]
		}
	}
	return nil
}

// subject finds a block of s. Where its issuer is not known it may be the one
// that is blocked, so it is.
func (l blocks) subject(s *Subject, now time.Time) *Block {
	of := l[blockTarget{BlockSubject, s.ID}]
	for i := range of {
		b := &of[i]
		if now.Before(b.Until) && (b.Issuer == "" || s.Issuer == "" || b.Issuer == s.Issuer) {
			return b
		}
	}
	return nil
}

// caller finds a block of whom in is asked for, once that is settled.
func (l blocks) caller(in *input) *Block {
	if len(l) == 0 {
		return nil
	}
	if b := l.subject(&in.subject, in.now); b != nil {
		return b
	}
	if b := l.holds(BlockAgent, in.agent, in.now); b != nil {
		return b
	}
	if b := l.holds(BlockTenant, in.query.tenant(), in.now); b != nil {
		return b
	}
	for _, u := range in.usable {
		if b := l.holds(BlockClient, u.ClientID, in.now); b != nil {
			return b
		}
		if b := l.holds(BlockTenant, u.Tenant, in.now); b != nil {
			return b
		}
		for _, a := range u.Actors {
			if b := l.holds(BlockClient, a.Subject, in.now); b != nil {
				return b
			}
		}
	}
	return nil
}

// tool finds a block of the tool that q is about: the one that the message
// calls, whatever a mapping makes of it, or that is asked about without one.
func (l blocks) tool(q *Query, now time.Time) *Block {
	if len(l) == 0 {
		return nil
	}
	if q.MCP != nil && q.MCP.Method == methodToolsCall {
		name, _ := q.MCP.Params.Get("name")
		if b := l.holds(BlockTool, name.Text(), now); b != nil {
			return b
		}
	}
	// Without a message policy sees the resource as the tool that is called,
	// whatever its type is said to be.
	if q.Resource.Type == resourceTool || q.MCP == nil && q.Action.Name == methodToolsCall {
		return l.holds(BlockTool, q.Resource.ID, now)
	}
	return nil
}

// blocked denies what is blocked. The client is told nothing but that.
func (d *deciding) blocked() bool {
	list := d.engine.blockList()
	b := list.caller(&d.in)
	if b == nil {
		b = list.tool(d.in.query, d.in.now)
	}
	if b == nil {
		return false
	}
	d.block(b)
	return true
}

func (d *deciding) block(b *Block) {
	d.decision.Reasons = append(d.decision.Reasons, Reason{
		Code: CodeBlocked, Message: fmt.Sprintf("the %s is blocked until %s", b.Kind, b.Until.UTC().Format(time.RFC3339)), Detail: []string{b.ID},
	})
	d.decision.Message = "This is blocked for now."
	d.decision.MessageAdmin = clip(withoutControls(fmt.Sprintf("%s is blocked by %s until %s: %s",
		b.Kind, b.ID, b.Until.UTC().Format(time.RFC3339), b.Why)), maxMessage)
	d.deny(Unavailable, nil)
}
