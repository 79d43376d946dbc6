package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/authzd/authzd/engine"
	"github.com/authzd/authzd/engine/blocklist"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/store"
)

// blockService implements the generated interface on the block list.
type blockService struct {
	authzdv1.UnimplementedBlockServiceServer
	server *Server
}

func (b *blockService) list() (*blocklist.List, error) {
	if b.server.opts.Blocks == nil {
		return nil, &engine.Error{Code: engine.CodeBlocksUnavailable, Err: errors.New("this server keeps no block list: it has no --data-dir")}
	}
	return b.server.opts.Blocks, nil
}

// CreateBlock blocks one target.
func (b *blockService) CreateBlock(ctx context.Context, m *authzdv1.CreateBlockRequest) (*authzdv1.CreateBlockResponse, error) {
	l, err := b.list()
	if err != nil {
		return nil, err
	}
	if err := validWhy(m.GetWhy()); err != nil {
		return nil, err
	}
	r := blocklist.Request{
		Kind: engine.BlockKind(m.GetKind()), Value: m.GetValue(), Issuer: m.GetIssuer(),
		For: time.Duration(m.GetForSeconds()) * time.Second, Who: callFrom(ctx).caller.Name, Why: m.GetWhy(),
	}
	// A caller that goes away has blocked all the same.
	made, err := l.Create(context.WithoutCancel(ctx), r)
	if err != nil {
		return nil, err //nolint:wrapcheck // classed by its code
	}
	return &authzdv1.CreateBlockResponse{Block: blockOf(&made)}, nil
}

// ListBlocks lists one page of blocks.
func (b *blockService) ListBlocks(ctx context.Context, m *authzdv1.ListBlocksRequest) (*authzdv1.ListBlocksResponse, error) {
	l, err := b.list()
	if err != nil {
		return nil, err
	}
	size, err := pageSize(m.GetPageSize())
	if err != nil {
		return nil, err
	}
	created, id, err := readPageToken(m.GetPageToken())
	if err != nil {
		return nil, err
	}
	list, err := l.Page(ctx, store.Block{ID: id, CreatedAt: time.UnixMicro(created)}, size+1)
	if err != nil {
		return nil, err //nolint:wrapcheck // classed by its code
	}
	out := &authzdv1.ListBlocksResponse{}
	if len(list) > size {
		list = list[:size]
		out.NextPageToken = pageToken(list[size-1].CreatedAt.UnixMicro(), list[size-1].ID)
	}
	for i := range list {
		out.Blocks = append(out.Blocks, blockOf(&list[i]))
	}
	return out, nil
}

// LiftBlock ends a block.
func (b *blockService) LiftBlock(ctx context.Context, m *authzdv1.LiftBlockRequest) (*authzdv1.LiftBlockResponse, error) {
	l, err := b.list()
	if err != nil {
		return nil, err
	}
	if err := validWhy(m.GetWhy()); err != nil {
		return nil, err
	}
	lifted, err := l.Lift(context.WithoutCancel(ctx), m.GetId(), callFrom(ctx).caller.Name, m.GetWhy())
	if err != nil {
		return nil, err //nolint:wrapcheck // classed by its code
	}
	return &authzdv1.LiftBlockResponse{Block: blockOf(&lifted)}, nil
}

func blockOf(b *blocklist.Block) *authzdv1.Block {
	out := &authzdv1.Block{
		Id: b.ID, Kind: b.Kind, Value: valid(b.Target), Issuer: valid(b.Issuer), State: string(b.State), Why: valid(b.Why),
		CreatedBy: valid(b.CreatedBy), CreatedAt: timestamppb.New(b.CreatedAt), Until: timestamppb.New(b.EndsAt),
	}
	if !b.LiftedAt.IsZero() {
		out.LiftedBy, out.LiftedWhy, out.LiftedAt = valid(b.LiftedBy), valid(b.LiftedWhy), timestamppb.New(b.LiftedAt)
	}
	return out
}
