package bundles

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// openArchiveFile reads the archive stored at name.
func openArchiveFile(name string, l Limits) (Content, error) {
	f, err := os.Open(name) //nolint:gosec // the operator names the bundle to load
	if err != nil {
		return Content{}, &Error{Code: CodeUnreadable, Path: name, Err: fmt.Errorf("open bundle: %w", err)}
	}
	defer f.Close() //nolint:errcheck // read only, nothing to lose
	return OpenArchive(f, l)
}

// OpenArchive reads a bundle archive: gzip-compressed tar, as opa build writes
// it. It reads r to its end, within the Limits, and refuses anything after the
// archive.
func OpenArchive(r io.Reader, l Limits) (Content, error) {
	l = l.withDefaults()
	packed, err := readPacked(r, l)
	if err != nil {
		return Content{}, err
	}
	files, err := unpack(packed, l)
	if err != nil {
		return Content{}, err
	}
	return assemble(files, l)
}

func readPacked(r io.Reader, l Limits) ([]byte, error) {
	packed, err := io.ReadAll(io.LimitReader(r, l.MaxArchiveBytes+1))
	if err != nil {
		return nil, errorf(CodeUnreadable, "", "read archive: %w", err)
	}
	if int64(len(packed)) > l.MaxArchiveBytes {
		return nil, errorf(CodeTooLarge, "", "the archive is larger than %d bytes", l.MaxArchiveBytes)
	}
	return packed, nil
}

func unpack(packed []byte, l Limits) ([]File, error) {
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, errorf(CodeUnreadable, "", "not a gzip-compressed archive: %w", err)
	}
	// The tar reader never sees more than this, whatever its headers claim.
	budget := &budgetReader{r: zr, left: l.MaxBytes + int64(l.MaxFiles)*tarOverhead}
	u := unpacker{limits: l, tar: tar.NewReader(budget), seen: map[string]string{}, most: int64(len(packed)) * maxInflation}
	for {
		done, err := u.next()
		if err != nil {
			return nil, archiveError(err)
		}
		if done {
			break
		}
	}
	// What follows the end mark is padding. Reading it also verifies gzip's
	// checksum, which covers all that was read before.
	budget.left = min(budget.left, maxPadding)
	if _, err := io.Copy(zeroWriter{}, budget); err != nil {
		return nil, archiveError(err)
	}
	return u.files, nil
}

// tarOverhead is what headers and padding of one entry may take, long names
// (PAX) included.
const tarOverhead = 8 << 10

// maxInflation is more than gzip makes of a byte.
const maxInflation = 1040

// maxPadding is more than any tar pads an archive with (GNU tar: 10 KiB).
const maxPadding = 1 << 20

var (
	errBudget  = errors.New("the archive unpacks to more than is allowed")
	errTrailer = errors.New("data after the end of the archive")
)

// archiveError codes what the tar and gzip readers report.
func archiveError(err error) error {
	var coded *Error
	switch {
	case errors.As(err, &coded):
		return coded
	case errors.Is(err, errBudget):
		return &Error{Code: CodeTooLarge, Err: err}
	}
	return errorf(CodeUnreadable, "", "read archive: %w", err)
}

// budgetReader fails, rather than ends, when its budget is used up.
type budgetReader struct {
	r    io.Reader
	left int64
}

func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBudget
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err //nolint:wrapcheck // io.EOF must stay itself
}

// zeroWriter takes padding and nothing else.
type zeroWriter struct{}

func (zeroWriter) Write(p []byte) (int, error) {
	for _, c := range p {
		if c != 0 {
			return 0, errTrailer
		}
	}
	return len(p), nil
}

// unpacker reads the entries of a tar file one by one.
type unpacker struct {
	limits  Limits
	tar     *tar.Reader
	files   []File
	entries int
	total   int64
	seen    map[string]string // names seen, folded, with their spelling
	most    int64             // no file can be larger
}

// next reads one entry; true at the end of the archive.
func (u *unpacker) next() (bool, error) {
	h, err := u.tar.Next()
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("tar header: %w", err)
	}
	if u.entries++; u.entries > u.limits.MaxFiles {
		return false, errorf(CodeTooLarge, "", "more than %d files", u.limits.MaxFiles)
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir:
		_, err := cleanName(strings.TrimSuffix(h.Name, "/"), u.limits)
		return false, err
	default:
		return false, errorf(CodeUnsafeEntry, printable(h.Name), "only files and folders have a place in a bundle, this is tar type %q", h.Typeflag)
	}
	name, err := cleanName(h.Name, u.limits)
	if err != nil {
		return false, err
	}
	if name == "" {
		return false, errorf(CodeUnsafePath, "", "a file without a name")
	}
	if err := u.claim(name); err != nil {
		return false, err
	}
	data, err := u.content(name, h.Size)
	if err != nil {
		return false, err
	}
	u.files = append(u.files, File{Path: name, Data: data})
	return false, nil
}

// claim refuses a name twice, also in another case: unpacked on some file
// systems, one would replace the other.
func (u *unpacker) claim(name string) error {
	key := strings.ToLower(name)
	if before, dup := u.seen[key]; dup {
		return errorf(CodeDuplicateFile, name, "the archive holds %q already", before)
	}
	u.seen[key] = name
	return nil
}

func (u *unpacker) content(name string, size int64) ([]byte, error) {
	if size > u.limits.MaxFileBytes {
		return nil, errorf(CodeTooLarge, name, "the file is larger than %d bytes", u.limits.MaxFileBytes)
	}
	if u.total += size; u.total > u.limits.MaxBytes {
		return nil, errorf(CodeTooLarge, name, "the files together are larger than %d bytes", u.limits.MaxBytes)
	}
	// Not allocated by the header's word alone: a lie costs what could have been sent.
	if size > u.most {
		return nil, errorf(CodeUnreadable, name, "the archive is too short for a file of %d bytes", size)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(u.tar, data); err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	return data, nil
}

// printable is a name that can stand in a line of text.
func printable(name string) string {
	if utf8.ValidString(name) && !strings.ContainsFunc(name, unicode.IsControl) {
		return name
	}
	return strconv.Quote(name)
}

// cleanName returns name without the one leading slash that opa build writes,
// or the "./" that tar writes; "" is the bundle's own folder. Everything else
// that is not a plain relative path is refused: one reader's clean-up is
// another's traversal.
func cleanName(name string, l Limits) (string, error) {
	s := name
	switch {
	case s == ".":
		s = ""
	case strings.HasPrefix(s, "/"):
		s = s[1:]
	case strings.HasPrefix(s, "./"):
		s = s[2:]
	}
	switch {
	case s == "":
		return "", nil
	case len(s) > maxPathBytes:
		return "", errorf(CodeTooLarge, "", "a name is longer than %d bytes", maxPathBytes)
	case !utf8.ValidString(s), strings.ContainsRune(s, '\\'), strings.ContainsFunc(s, unicode.IsControl):
		return "", errorf(CodeUnsafePath, strconv.Quote(name), "names are UTF-8 without backslash and control characters")
	case path.Clean("/"+s) != "/"+s:
		return "", errorf(CodeUnsafePath, name, "names are relative, without empty, %q or %q steps", ".", "..")
	case strings.Count(s, "/") > l.MaxPathDepth:
		return "", errorf(CodeTooLarge, name, "more than %d folders deep", l.MaxPathDepth)
	}
	return s, nil
}
