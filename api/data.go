package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/authzd/authzd/bundles"
	"github.com/authzd/authzd/bundles/registry"
	authzdv1 "github.com/authzd/authzd/proto/gen/authzd/v1"
	"github.com/authzd/authzd/rar"
)

// ChangeData changes data of the active revision.
func (b *bundleService) ChangeData(ctx context.Context, m *authzdv1.ChangeDataRequest) (*authzdv1.ChangeDataResponse, error) {
	d := registry.DataChange{Name: m.GetName(), Why: m.GetWhy(), ExpectAbsent: m.GetIfAbsent()}
	if m.GetIfMatch() != "" {
		d.Expect = []string{m.GetIfMatch()}
	}
	size := 0
	for i, e := range m.GetEdits() {
		if size += len(e.GetValue()) + len(e.GetPath()); size > bundles.MaxDeltaBytes {
			return nil, changeTooLarge()
		}
		edit, err := editOf(e, "/edits/"+strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		d.Edits = append(d.Edits, edit)
	}
	return b.server.changeData(ctx, callFrom(ctx), d)
}

func changeTooLarge() error {
	return &bundles.Error{Code: bundles.CodeTooLarge, Err: errors.New("a change may be " + strconv.Itoa(bundles.MaxDeltaBytes) + " bytes: push a bundle instead")}
}

// editOf reads one edit as the patch.json of a delta bundle is read.
func editOf(e *authzdv1.DataEdit, at string) (rar.Edit, error) {
	members := []rar.Member{{Name: "op", Value: rar.StringValue(e.GetOp())}, {Name: "path", Value: rar.StringValue(e.GetPath())}}
	if len(e.GetValue()) > 0 {
		v, err := decodeData(e.GetValue(), at+"/value")
		if err != nil {
			return rar.Edit{}, err
		}
		members = append(members, rar.Member{Name: "value", Value: v})
	}
	return bundles.DecodeEdit(rar.ObjectValue(members...), at) //nolint:wrapcheck // coded
}

// decodeData reads a document strictly. At is what errors name.
func decodeData(text []byte, at string) (rar.Value, error) {
	v, err := rar.DecodeStrict(text, rar.Limits{MaxBytes: bundles.MaxDeltaBytes, MaxDepth: bundles.DefaultMaxDataDepth})
	var fault *rar.Error
	if errors.As(err, &fault) {
		return v, &bundles.Error{Code: bundles.CodeDeltaInvalid, Path: at + fault.Path, Err: err}
	}
	return v, err //nolint:wrapcheck // always the above
}

// changeData is one change, whichever door it came through.
func (s *Server) changeData(ctx context.Context, c call, d registry.DataChange) (*authzdv1.ChangeDataResponse, error) {
	r, err := s.registry()
	if err != nil {
		return nil, err
	}
	conditional := d.Expect != nil || d.ExpectAbsent
	switch {
	case len(d.Edits) == 0:
		return nil, errorf(CodeMissingMember, "/edits", "there is nothing to change")
	case len(d.Edits) > bundles.MaxEdits:
		return nil, changeTooLarge()
	case conditional && len(d.Edits) != 1:
		return nil, errorf(CodeInvalidValue, "/if_match", "goes with one edit")
	case d.Expect != nil && d.ExpectAbsent:
		return nil, errorf(CodeInvalidValue, "/if_absent", "can not be met together with if_match")
	}
	if err := validWhy(d.Why); err != nil {
		return nil, err
	}
	for _, f := range s.opts.Follow.Status() {
		if f.Bundle == d.Name {
			return nil, &bundles.Error{Code: bundles.CodeFollowed, Path: "/name", Err: errors.New("the bundle is as another server has it: change its data there")}
		}
	}
	d.Path, d.Who = d.Edits[0].Path, c.caller.Name
	done, err := r.ChangeData(ctx, d)
	if err != nil {
		return nil, err //nolint:wrapcheck // classed by its code
	}
	s.observe()
	out := &authzdv1.ChangeDataResponse{Revision: done.Revision, Digest: done.Digest, Number: done.Number}
	if len(d.Edits) == 1 && d.Edits[0].Op != rar.Remove {
		out.Tag = registry.TagOf(d.Edits[0].Value)
	}
	return out, nil
}

// GetData reads a document.
func (b *bundleService) GetData(_ context.Context, m *authzdv1.GetDataRequest) (*authzdv1.GetDataResponse, error) {
	path, err := bundles.SplitPointer(m.GetPath(), "/path")
	if err != nil {
		return nil, err //nolint:wrapcheck // coded
	}
	return b.server.data(m.GetName(), path)
}

func (s *Server) data(name string, path []string) (*authzdv1.GetDataResponse, error) {
	r, err := s.registry()
	if err != nil {
		return nil, err
	}
	d, err := r.Document(name, path)
	if err != nil {
		return nil, err //nolint:wrapcheck // classed by its code
	}
	return &authzdv1.GetDataResponse{Value: d.JSON, Tag: d.Tag, Revision: d.Revision, Digest: d.Digest, Number: d.Number}, nil
}

// dataPath is the bundle's name, and the member names of a document, in a URL.
func dataPath(r *http.Request) (name string, path []string, err error) {
	rest := strings.TrimPrefix(r.URL.EscapedPath(), pathBundles+"/")
	name, rest, _ = strings.Cut(rest, pathData)
	steps, below := strings.CutPrefix(rest, "/")
	switch {
	case rest != "" && !below: // data%2F: this slash is no step of it
		return "", nil, errorf(CodeNotFound, "", "nothing is served at this path")
	case steps == "":
		return name, nil, nil
	}
	for step := range strings.SplitSeq(steps, "/") {
		one, err := url.PathUnescape(step)
		if err != nil || one == "" || !utf8.ValidString(one) {
			return "", nil, errorf(CodeInvalidValue, "/path", "the steps of the path of a document are UTF-8, and none is empty")
		}
		path = append(path, one)
	}
	return name, path, nil
}

// restGetData answers with the document itself.
func (s *Server) restGetData(w http.ResponseWriter, r *http.Request, c call) {
	var out *authzdv1.GetDataResponse
	err := s.guard(r.Context(), c, func(context.Context) error {
		if err := knownQuery(r); err != nil {
			return err
		}
		name, path, err := dataPath(r)
		if err != nil {
			return err
		}
		if len(path) == 0 {
			return errorf(CodeInvalidValue, "/path", "name a document: .../data/users/alice")
		}
		out, err = s.data(name, path)
		return err
	})
	if err != nil {
		s.refuse(w, r, c, err)
		return
	}
	header := w.Header()
	header["Etag"] = []string{etagOf(out.GetTag())}
	header["X-Revision"] = []string{out.GetRevision()}
	if has(r.Header.Values("If-None-Match"), out.GetTag()) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	writeJSON(w, http.StatusOK, append(out.GetValue(), '\n'))
}

// restChangeData takes a document as the body of a PUT, many as that of a PATCH.
func (s *Server) restChangeData(w http.ResponseWriter, r *http.Request, c call) {
	var body []byte
	var tag string
	err := s.guardFor(r.Context(), c, pushTime, func(ctx context.Context) error {
		d, err := s.dataChangeOf(r)
		if err != nil {
			return err
		}
		out, err := s.changeData(ctx, c, d)
		if err != nil {
			return err
		}
		tag = out.GetTag()
		body, err = MarshalJSON(out)
		return err
	})
	if err != nil {
		s.refuse(w, r, c, err)
		return
	}
	if tag != "" {
		w.Header()["Etag"] = []string{etagOf(tag)}
	}
	writeJSON(w, http.StatusOK, append(body, '\n'))
}

func (s *Server) dataChangeOf(r *http.Request) (d registry.DataChange, err error) {
	if err := knownQuery(r, "why"); err != nil {
		return d, err
	}
	var path []string
	if d.Name, path, err = dataPath(r); err != nil {
		return d, err
	}
	d.Why = r.URL.Query().Get("why")
	if err := conditions(r, &d); err != nil {
		return d, err
	}
	if r.Method != http.MethodPatch && len(path) == 0 || r.Method == http.MethodPatch && len(path) > 0 {
		return d, errorf(CodeInvalidValue, "/path", "PUT and DELETE name a document, .../data/users/alice; PATCH names .../data, and documents in its body")
	}
	if kind := r.Header.Get("Content-Type"); r.Method != http.MethodDelete && !jsonContent(kind) {
		return d, errorf(CodeContentType, "", "send JSON as Content-Type application/json")
	}
	body, err := readBody(r.Body, bundles.MaxDeltaBytes)
	if err != nil {
		return d, err
	}
	switch r.Method {
	case http.MethodPatch:
		d.Edits, err = bundles.DecodePatch(body, "")
	case http.MethodDelete:
		if len(body) > 0 {
			return d, errorf(CodeInvalidValue, "", "DELETE has no body")
		}
		d.Edits = []rar.Edit{{Op: rar.Remove, Path: path}}
	default:
		var v rar.Value
		v, err = decodeData(body, "")
		d.Edits, d.Put = []rar.Edit{{Op: rar.Upsert, Path: path, Value: v}}, true
	}
	return d, err //nolint:wrapcheck // coded
}

// conditions reads If-Match and If-None-Match (RFC 9110 section 13.1).
func conditions(r *http.Request, d *registry.DataChange) error {
	for _, h := range r.Header.Values("If-Match") {
		for tag := range strings.SplitSeq(h, ",") {
			tag = strings.TrimSpace(tag)
			opaque := strings.TrimPrefix(tag, "W/")
			switch {
			case tag == "*":
			case len(opaque) < 2 || opaque[0] != '"' || opaque[len(opaque)-1] != '"':
				return errorf(CodeInvalidValue, "/if_match", "must be * or the ETag of the document, in quotes")
			case opaque != tag, opaque == `"*"`:
				// It is a tag, which no document has: a weak one matches nothing here.
			default:
				tag = opaque[1 : len(opaque)-1]
			}
			d.Expect = append(d.Expect, tag)
		}
	}
	switch none := r.Header.Values("If-None-Match"); {
	case len(none) == 0:
	case slices.Equal(none, []string{"*"}):
		d.ExpectAbsent = true
	default:
		return errorf(CodeInvalidValue, "/if_none_match", "is * only: there must be no document yet")
	}
	return nil
}
