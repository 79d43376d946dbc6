package rar

import (
	"errors"
	"fmt"
	"strconv"
)

// Parse reads authorization_details as a request or a policy states them: any
// fault is an error. The order of the checks is fixed: syntax, array, then for
// each element object, repeated names, type, declared, schema.
func (t *Types) Parse(text []byte, l Limits) ([]Value, error) {
	l = l.withDefaults()
	v, names, err := decode(string(text), l)
	if err != nil {
		return nil, err
	}
	return t.parse(v, names, l)
}

// ParseValue is Parse for a value that is decoded already.
func (t *Types) ParseValue(v Value) ([]Value, error) {
	return t.parse(v, nil, Limits{}.withDefaults())
}

func (t *Types) parse(v Value, names *nameFault, l Limits) ([]Value, error) {
	if err := boundedArray(v, l); err != nil {
		return nil, err
	}
	for i, e := range v.list() {
		if e.kind != Object {
			return nil, notObject(i, e)
		}
		if names.in(i) {
			return nil, names.err()
		}
		if err := t.validate(e); err != nil {
			return nil, below(err, strconv.Itoa(i))
		}
	}
	return v.list(), nil
}

// Validate holds authorization_details against the declared types as an
// authorization server must before it grants them (RFC 9396 section 5), and
// returns the first fault of each object, in their order, with a Path that starts
// at the array. None: the request is valid. Any one means that the whole request
// is to be refused; there is no partial success.
func (t *Types) Validate(details Value) []*Error {
	if err := boundedArray(details, Limits{}.withDefaults()); err != nil {
		return []*Error{err}
	}
	var faults []*Error
	for i, e := range details.list() {
		if e.kind != Object {
			faults = append(faults, notObject(i, e))
		} else if err := t.validate(e); err != nil {
			err.Path = "/" + strconv.Itoa(i) + err.Path
			faults = append(faults, err)
		}
	}
	return faults
}

func boundedArray(v Value, l Limits) *Error {
	if v.kind != Array {
		return &Error{Code: CodeNotArray, Err: fmt.Errorf("%s where an array belongs", v.kind)}
	}
	if v.Len() > l.MaxObjects {
		return &Error{Code: CodeTooLarge, Err: fmt.Errorf("%d objects where %d are allowed", v.Len(), l.MaxObjects)}
	}
	return nil
}

func notObject(i int, e Value) *Error {
	return &Error{
		Code: CodeNotObject, Path: "/" + strconv.Itoa(i),
		Err: fmt.Errorf("%s where an object belongs", e.kind),
	}
}

// in reports whether the fault lies in element i of the document.
func (f *nameFault) in(i int) bool {
	return f != nil && len(f.path) > 0 && f.path[len(f.path)-1] == strconv.Itoa(i)
}

// validate holds one object against its declared type; the path of the error
// starts at the object.
func (t *Types) validate(v Value) *Error {
	name, ok := v.Get("type")
	switch {
	case !ok:
		return &Error{Code: CodeMissingType, Err: errors.New("the object has no type")}
	case name.kind != String:
		return &Error{Code: CodeMissingType, Path: "/type", Err: errors.New("type is not a string")}
	}
	ty := t.lookup(name.str())
	if ty == nil {
		return &Error{Code: CodeUnknownType, Path: "/type", Err: errors.New("the type is not declared")}
	}
	return ty.validate(v)
}

// validate holds v against the schema of the type.
func (ty *typ) validate(v Value) *Error {
	if ty.quick != nil && ty.quick.valid(v) {
		return nil
	}
	if err := ty.schema.Validate(v.Any()); err != nil {
		return schemaFault(v, err)
	}
	return nil
}

// Skipped is a part of a token's claim that grants nothing, and why.
type Skipped struct {
	// Index is the place of the object in the claim; -1 means the whole claim.
	Index int
	// Type is the type of the object, "" if it has none.
	Type string
	// Value is the object or the claim; Absent if it could not be decoded.
	Value Value
	// Err says why. Its Path starts at the claim.
	Err *Error
}

// Granted reads the authorization_details of a token, leniently where that is
// safe: an object that can not be used grants nothing and is reported, the rest
// is used. A claim that is not an array of objects grants nothing at all. The
// usable objects satisfy their schemas, see CoverOptions.GrantedValidated.
func (t *Types) Granted(claim Value) (usable []Value, skipped []Skipped) {
	return t.granted(claim, Limits{}.withDefaults())
}

// GrantedText is Granted for a claim that is still text. Repeated names make
// the whole claim unusable, wherever they stand.
func (t *Types) GrantedText(claim []byte, l Limits) (usable []Value, skipped []Skipped) {
	l = l.withDefaults()
	v, err := DecodeStrict(claim, l)
	if err != nil {
		return nil, wholeClaim(v, err)
	}
	return t.granted(v, l)
}

func wholeClaim(claim Value, err error) []Skipped {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Code: CodeSyntax, Err: err}
	}
	return []Skipped{{Index: -1, Value: claim, Err: e}}
}

func (t *Types) granted(claim Value, l Limits) (usable []Value, skipped []Skipped) {
	if claim.kind == Absent {
		return nil, nil // a token without the claim is nothing to report
	}
	if err := boundedArray(claim, l); err != nil {
		return nil, wholeClaim(claim, err)
	}
	for i, e := range claim.list() {
		if e.kind != Object {
			return nil, wholeClaim(claim, notObject(i, e))
		}
	}
	for i, e := range claim.list() {
		err := t.validate(e)
		if err == nil {
			usable = append(usable, e)
			continue
		}
		err.Path = "/" + strconv.Itoa(i) + err.Path
		skipped = append(skipped, Skipped{Index: i, Type: typeOf(e), Value: e, Err: err})
	}
	return usable, skipped
}

// typeOf returns the type of an object, "" if it has none.
func typeOf(v Value) string {
	name, _ := v.Get("type")
	if name.kind != String {
		return ""
	}
	return name.str()
}
