package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/authzd/authzd/bundles"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
)

func newBundlePull(std stdio) *cobra.Command {
	a := admin{std: std}
	var m authzdv1.DownloadBundleRequest
	var file string
	var force bool
	cmd := &cobra.Command{
		Use:   "pull NAME [REVISION]",
		Short: "Download a bundle from a server",
		Long: "Downloads the active archive of a name, or the named revision if the server keeps it, byte for byte as it was pushed,\n" +
			"to NAME.tar.gz. The signature is in it, and is not verified: authzd bundle verify does. Needs the right audit.",
		Example: `  authzd bundle pull main
  authzd bundle pull main 2026-11-24.1 -f before.tar.gz`,
		Args: cobra.RangeArgs(1, 2),
	}
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "write to this file, - is standard output; default NAME.tar.gz")
	f.StringVar(&m.Digest, "digest", "", "which archive, where a revision is not enough")
	f.BoolVar(&force, "force", false, "replace the file if it is there")
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		if m.Name = args[0]; len(args) == 2 {
			m.Revision = args[1]
		}
		name := file
		if name == "" {
			name = m.Name + ".tar.gz"
		}
		if _, err := os.Lstat(name); err == nil && !force && name != "-" {
			return nil, fmt.Errorf("%s is there already: give another --file, or --force", name)
		}
		b, archive, err := download(ctx, c, &m)
		if err != nil {
			return nil, err
		}
		if name == "-" {
			if _, err := std.out.Write(archive); err != nil {
				return nil, fmt.Errorf("write the archive: %w", err)
			}
			return nil, nil //nolint:nilnil // the archive is the answer
		}
		if err := writeWhole(name, archive); err != nil || *a.format == "json" {
			return b, err
		}
		return nil, printOut(std, fmt.Sprintf("%s %s is in %s (%s)", b.GetName(), cleanCell(b.GetRevision()), name, b.GetDigest()))
	})
	return cmd
}

// download reads an archive, and refuses one that is not what its digest says.
func download(ctx context.Context, c authzdv1.BundleServiceClient, m *authzdv1.DownloadBundleRequest) (*authzdv1.Bundle, []byte, error) {
	stream, err := c.DownloadBundle(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	var b *authzdv1.Bundle
	var archive []byte
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			sum := sha256.Sum256(archive)
			if b == nil || b.GetDigest() != "sha256:"+hex.EncodeToString(sum[:]) {
				return nil, nil, errors.New("what came is not the archive that the server has named")
			}
			return b, archive, nil
		case err != nil:
			return nil, nil, err
		case part.GetBundle() != nil:
			b = part.GetBundle()
		case len(archive)+len(part.GetChunk()) > bundles.DefaultMaxArchiveBytes:
			return nil, nil, fmt.Errorf("the archive is larger than %d bytes", bundles.DefaultMaxArchiveBytes)
		}
		archive = append(archive, part.GetChunk()...)
	}
}

// pushedRef is NAME@REVISION, NAME@sha256:… or NAME@, which is what is active.
func pushedRef(arg string) (*authzdv1.DownloadBundleRequest, bool) {
	name, which, ok := strings.Cut(arg, "@")
	if !ok || name == "" || strings.ContainsAny(name, `/\`) {
		return nil, false
	}
	if _, err := os.Lstat(arg); err == nil {
		return nil, false // a file of this name
	}
	m := &authzdv1.DownloadBundleRequest{Name: name, Revision: which}
	if strings.HasPrefix(which, "sha256:") {
		m.Revision, m.Digest = "", which
	}
	return m, true
}

func newBundleWatch(std stdio) *cobra.Command {
	a := admin{std: std}
	var once bool
	cmd := &cobra.Command{
		Use:   "watch [NAME]",
		Short: "Print what happens to the bundles of a server, as it happens",
		Long: "Prints what is active, and then a line for each event, until it is interrupted; when the server is away it asks again, and\n" +
			"misses nothing that the server remembers. With -o json each line is a message of WatchBundles. Needs the right audit.",
		Args: cobra.MaximumNArgs(1),
	}
	a.define(cmd, func(ctx context.Context, c authzdv1.BundleServiceClient, args []string) (proto.Message, error) {
		m := &authzdv1.WatchBundlesRequest{}
		if len(args) == 1 {
			m.Name = args[0]
		}
		return nil, a.watch(ctx, c, m, once)
	})
	f := cmd.Flags()
	f.BoolVar(&once, "once", false, "end after the first event")
	f.Lookup("timeout").DefValue = "0s"
	f.Lookup("timeout").Usage = "end after this time; 0: never"
	a.timeout = 0
	return cmd
}

// retryAfter is how long watch waits for a server that is away.
const retryAfter = time.Second

// watch asks again when the server ends a stream.
func (a *admin) watch(ctx context.Context, c authzdv1.BundleServiceClient, m *authzdv1.WatchBundlesRequest, once bool) error {
	for first := true; ; {
		err := a.watchStream(ctx, c, m, &first, once)
		if errors.Is(err, errSeen) || ctx.Err() != nil {
			return nil //nolint:nilerr // it is told to end
		}
		if err != nil && (first || status.Code(err) != codes.Unavailable) {
			return err
		}
		if err != nil {
			select {
			case <-time.After(retryAfter):
			case <-ctx.Done():
			}
		}
	}
}

// errSeen ends a watch for one event.
var errSeen = errors.New("seen")

func (a *admin) watchStream(ctx context.Context, c authzdv1.BundleServiceClient, m *authzdv1.WatchBundlesRequest, first *bool, once bool) error {
	stream, err := c.WatchBundles(ctx, m)
	if err != nil {
		return err
	}
	for {
		news, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		m.Position = proto.Int64(news.GetPosition())
		if !*first && len(news.GetEvents()) == 0 {
			continue // what is active, told again
		}
		if err := a.printNews(news, *first); err != nil {
			return err
		}
		if *first = false; once && len(news.GetEvents()) > 0 {
			return errSeen
		}
	}
}

func (a *admin) printNews(news *authzdv1.WatchBundlesResponse, first bool) error {
	if *a.format == "json" {
		return a.print(news)
	}
	if first {
		for _, b := range news.GetActive() {
			if err := printOut(a.std, fmt.Sprintf("%s %s is active", b.GetName(), cleanCell(b.GetRevision()))); err != nil {
				return err
			}
		}
	}
	for _, e := range news.GetEvents() {
		line := fmt.Sprintf("%s %s %s: %s, %s", e.GetAt().AsTime().Format(time.RFC3339), e.GetName(), cleanCell(orDash(e.GetRevision())), e.GetWhat(), e.GetTo())
		if e.GetWho() != "" {
			line += " by " + cleanCell(e.GetWho())
		}
		if e.GetWhy() != "" {
			line += " (" + cleanCell(e.GetWhy()) + ")"
		}
		if err := printOut(a.std, line); err != nil {
			return err
		}
	}
	return nil
}
