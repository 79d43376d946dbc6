package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

func newBlock(std stdio) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "block",
		Short: "Deny a subject, an agent, a client, a tool or a tenant at once, for a time",
		Long: "Blocks on a running server, without a bundle: every decision from the next one on is a deny, whatever policy\n" +
			"says, until the block ends or is lifted. Who blocked what and why is recorded, and survives a restart. The server\n" +
			"needs --data-dir; see docs/security.md.",
		Example: `  authzd block subject alice@example.com --for 1h --why "stolen laptop, ticket 4711"
  authzd block list
  authzd block lift 01JDF5Q0ZJ3V2N8W6Y4K9B7TXC --why "laptop found"`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newBlockCreate(std, "subject", "a person or a service, by its id"),
		newBlockCreate(std, "agent", "an agent, by the client id that context.agent has"),
		newBlockCreate(std, "client", "an OAuth client, also where it only stands in a chain of actors"),
		newBlockCreate(std, "tool", "a tool, by the name that calls give it"),
		newBlockCreate(std, "tenant", "a tenant: the caller's, or that of an access token; \"default\" is every caller, so that nothing is allowed"),
		newBlockList(std), newBlockLift(std),
	)
	return cmd
}

func newBlockCreate(std stdio, kind, what string) *cobra.Command {
	a := admin{std: std}
	m := authzdv1.CreateBlockRequest{Kind: kind}
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:     kind + " VALUE --for DURATION --why TEXT",
		Short:   "Block " + what,
		Long:    "Blocks " + what + ", compared byte by byte. Needs the right admin. Prints the block's id.",
		Example: "  authzd block " + kind + ` VALUE --for 1h --why "ticket 4711"`,
		Args:    cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.DurationVar(&lasts, "for", 0, "how long, e.g. 1h; at most 720h")
	f.StringVar(&m.Why, "why", "", "reason, for the record; no client is told")
	if kind == "subject" {
		f.StringVar(&m.Issuer, "issuer", "", "only the subject of this issuer; default any")
	}
	for _, name := range []string{"for", "why"} {
		_ = cmd.MarkFlagRequired(name) // fails only for a flag that is not there
	}
	a.defineOn(cmd, func(ctx context.Context, conn grpc.ClientConnInterface, args []string) (proto.Message, error) {
		// Up to the next second, so that no block is shorter than was asked for.
		seconds := (lasts + time.Second - 1) / time.Second
		if lasts <= 0 || seconds > 1<<30 {
			return nil, errors.New("--for: is a time above 0, and at most 720h")
		}
		m.Value, m.ForSeconds = args[0], int32(seconds)
		return authzdv1.NewBlockServiceClient(conn).CreateBlock(ctx, &m)
	})
	return cmd
}

func newBlockList(std stdio) *cobra.Command {
	a := admin{std: std}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is blocked, and what was",
		Long:  "Lists the blocks that hold and the last ten thousand that do not any more, the newest first. Needs the right audit.",
		Args:  noArguments,
	}
	a.defineOn(cmd, func(ctx context.Context, conn grpc.ClientConnInterface, _ []string) (proto.Message, error) {
		var all authzdv1.ListBlocksResponse
		for token := ""; ; {
			page, err := authzdv1.NewBlockServiceClient(conn).ListBlocks(ctx, &authzdv1.ListBlocksRequest{PageToken: token})
			if err != nil {
				return nil, err
			}
			all.Blocks = append(all.Blocks, page.GetBlocks()...)
			if token = page.GetNextPageToken(); token == "" {
				return &all, nil
			}
		}
	})
	return cmd
}

func newBlockLift(std stdio) *cobra.Command {
	a := admin{std: std}
	var m authzdv1.LiftBlockRequest
	cmd := &cobra.Command{
		Use:     "lift ID",
		Short:   "End a block before its time",
		Long:    "Ends a block. One that was lifted already stays as it is recorded. Needs the right admin.",
		Example: `  authzd block lift 01JDF5Q0ZJ3V2N8W6Y4K9B7TXC --why "laptop found"`,
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&m.Why, "why", "", "reason, for the record")
	a.defineOn(cmd, func(ctx context.Context, conn grpc.ClientConnInterface, args []string) (proto.Message, error) {
		m.Id = args[0]
		return authzdv1.NewBlockServiceClient(conn).LiftBlock(ctx, &m)
	})
	return cmd
}

// blockText is one block in a line.
func blockText(b *authzdv1.Block) string {
	text := b.GetId() + ": " + b.GetKind() + " " + plain(b.GetValue())
	if b.GetIssuer() != "" {
		text += " of " + plain(b.GetIssuer())
	}
	if b.GetState() == "active" {
		return text + " is blocked until " + b.GetUntil().AsTime().Format(time.RFC3339)
	}
	return text + " is not blocked any more (" + b.GetState() + ")"
}

func blockTable(list []*authzdv1.Block) string {
	rows := [][]string{{"ID", "KIND", "VALUE", "ISSUER", "STATE", "SINCE", "UNTIL", "WHO", "WHY"}}
	for _, b := range list {
		until, why := b.GetUntil(), b.GetWhy()
		if b.GetLiftedAt() != nil {
			until = b.GetLiftedAt()
			why += fmt.Sprintf(" (lifted by %s: %s)", orDash(b.GetLiftedBy()), orDash(b.GetLiftedWhy()))
		}
		rows = append(rows, []string{
			b.GetId(), b.GetKind(), plain(b.GetValue()), orDash(plain(b.GetIssuer())), b.GetState(),
			b.GetCreatedAt().AsTime().Format(time.RFC3339), until.AsTime().Format(time.RFC3339), orDash(b.GetCreatedBy()), why,
		})
	}
	return table(rows)
}

// plain quotes what would not be one word of a line.
func plain(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return strconv.Quote(s)
	}
	return s
}
