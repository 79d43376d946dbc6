package api

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

// sender sends the messages of a stream in a goroutine, which ends with the
// stream: grpc-go has no other way to give up on a client that does not read.
type sender[M any] struct {
	ctx      context.Context //nolint:containedctx // the stream's, which ends with its handler
	messages chan *M
	sent     chan error
}

func newSender[M any](stream grpc.ServerStreamingServer[M]) *sender[M] {
	s := &sender[M]{ctx: stream.Context(), messages: make(chan *M), sent: make(chan error)}
	go func() {
		for {
			var err error
			select {
			case m := <-s.messages:
				err = stream.Send(m)
			case <-s.ctx.Done():
				return
			}
			select {
			case s.sent <- err:
			case <-s.ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

// send sends m, if the client takes it within downloadIdle.
func (s *sender[M]) send(ctx context.Context, m *M) error {
	late := time.NewTimer(downloadIdle)
	defer late.Stop()
	select {
	case s.messages <- m:
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // classed by its identity
	}
	select {
	case err := <-s.sent:
		if err != nil && s.ctx.Err() != nil {
			return s.ctx.Err() //nolint:wrapcheck // the client has gone
		}
		return err
	case <-late.C:
		return context.DeadlineExceeded
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // classed by its identity
	}
}
