package main

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// minSecret is the length from which a secret is looked for by its value.
const minSecret = 8

// credentialForms match every kind of Tailscale credential (auth keys, OAuth
// client secrets, API tokens) and the signed token of a workload identity.
var credentialForms = regexp.MustCompile(`tskey-[A-Za-z0-9_-]+|eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)

// secret is a string that never shows its value when it is printed.
type secret string

// String hides the value from every %v and %s.
func (secret) String() string { return redacted }

// GoString hides the value from %#v.
func (secret) GoString() string { return redacted }

// MarshalJSON hides the value from every document.
func (secret) MarshalJSON() ([]byte, error) { return json.Marshal(redacted) }

// redactor takes secrets out of texts that others wrote: errors of the backend
// and log lines.
type redactor struct{ known *strings.Replacer }

// newRedactor knows the given secrets by their value, in plain and as JSON
// writes them, and every credential by its form.
func newRedactor(secrets ...string) redactor {
	var pairs []string
	for _, s := range secrets {
		if len(s) < minSecret {
			continue // no real key, and it would tear up every text it is part of
		}
		quoted, _ := json.Marshal(s) // a string always marshals
		pairs = append(pairs, s, redacted, strings.Trim(string(quoted), `"`), redacted)
	}
	return redactor{strings.NewReplacer(pairs...)}
}

// text returns s without secrets.
func (r redactor) text(s string) string {
	return credentialForms.ReplaceAllString(r.known.Replace(s), redacted)
}

// redactingWriter is the last gate before stderr and the kept log. A filter on whole lines also
// catches what no attribute filter sees: groups, wrapped errors, structs.
type redactingWriter struct {
	w io.Writer
	r redactor
}

// Write passes one whole log line on, without secrets.
func (w redactingWriter) Write(line []byte) (int, error) {
	if _, err := io.WriteString(w.w, w.r.text(string(line))); err != nil {
		return 0, err
	}
	return len(line), nil
}
