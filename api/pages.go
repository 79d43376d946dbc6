package api

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// maxPage bounds a page of a list, and is its length where none is asked for.
const maxPage = 500

// pageSize checks a request's page_size.
func pageSize(n int32) (int, error) {
	switch {
	case n == 0:
		return maxPage, nil
	case n < 0 || n > maxPage:
		return 0, errorf(CodeInvalidValue, "/page_size", "is from 1 to %d", maxPage)
	}
	return int(n), nil
}

// pageToken names the last row of a page: what it is sorted by, and its name.
func pageToken(by int64, name string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(by, 10) + " " + name))
}

// readPageToken reads a token back; the zero values are the first page's.
func readPageToken(token string) (by int64, name string, err error) {
	if token == "" {
		return 0, "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	number, name, ok := strings.Cut(string(text), " ")
	by, numberErr := strconv.ParseInt(number, 10, 64)
	if err != nil || numberErr != nil || !ok || name == "" {
		return 0, "", errorf(CodeInvalidValue, "/page_token", "is not one of a page before")
	}
	return by, name, nil
}
