package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"unsafe"

	"tailscale.com/tstest/integration/testcontrol"
)

// intercept puts a handler around all that a control server answers. Its requests arrive
// inside Noise connections, which it serves from a private field, so nothing in front of
// the listener sees them: this is the one place that reaches into testcontrol.
func intercept(s *testcontrol.Server, wrap func(http.Handler) http.Handler) error {
	field := reflect.ValueOf(s).Elem().FieldByName("mux")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*http.ServeMux]() {
		return errors.New("this testcontrol keeps its handlers elsewhere")
	}
	request, err := http.NewRequest(http.MethodGet, "/generate_204", nil)
	if err != nil {
		return err
	}
	s.ServeHTTP(newAnswer(), request) // the first request makes the field
	slot := (**http.ServeMux)(unsafe.Pointer(field.UnsafeAddr()))
	inner := *slot
	outer := http.NewServeMux()
	outer.Handle("/", wrap(inner))
	*slot = outer
	return nil
}

// answer is a response that stays here, to be read and changed.
type answer struct {
	header http.Header
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}} }

// Header returns the header, which nobody reads.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader does nothing: testcontrol always answers 200.
func (a *answer) WriteHeader(int) {}

// Write keeps p.
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// writeJSON answers 200 with v.
func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller went away
}
