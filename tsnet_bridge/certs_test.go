package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"tailscale.com/tsweb"
)

type limitedError struct{ error }

func (limitedError) HTTPStatus() tsweb.HTTPError {
	return tsweb.HTTPError{Code: 429, Header: http.Header{"Retry-After": {"3600"}}}
}

// A 429 of the CA is told from other failures, with the time that it names.
func TestLimitOfTheCAIsRead(t *testing.T) {
	r := failedReport(fmt.Errorf("wrapped: %w", limitedError{errors.New("429")}))
	if !r.limited || time.Until(r.retryAt) < 59*time.Minute || time.Until(r.retryAt) > time.Hour {
		t.Errorf("%+v", r)
	}
	if r := failedReport(errors.New("SetDNS")); r.limited || !r.retryAt.IsZero() || r.err == nil {
		t.Errorf("%+v", r)
	}
}

// The pauses grow tenfold and then stay: the CA allows five failed validations an hour.
func TestPausesGrow(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: time.Minute, 2: 10 * time.Minute, 3: 100 * time.Minute, 9: 100 * time.Minute} {
		if got := backoff(time.Minute, failures); got < want || got > want*11/10+1 {
			t.Errorf("%d failures: want %v and a tenth, got %v", failures, want, got)
		}
	}
}

// Renewal begins with the last third of the life.
func TestRenewalBeginsWithTheLastThird(t *testing.T) {
	pair, _ := newCertificate(t, ownName) // an hour old, two to go
	c := &servedCert{ownName, pair}
	if want := pair.Leaf.NotBefore.Add(2 * time.Hour); !want.Equal(c.renewAt()) {
		t.Errorf("want %v, got %v", want, c.renewAt())
	}
}

// A new certificate that is to be renewed at once is not: the CA would be asked in a loop.
func TestRenewalsKeepTheirDistance(t *testing.T) {
	pair, _ := newCertificate(t, ownName) // an hour old, two to go
	c, pace := &servedCert{ownName, pair}, renewalPace{first: time.Minute}
	late := pair.Leaf.NotAfter.Add(-time.Minute)
	if at := pace.next(c, late); at.After(late) {
		t.Error("an old one of the disk is not renewed at once")
	}
	for _, least := range []time.Duration{time.Minute, 10 * time.Minute} {
		if at := pace.next(c, late); at.Before(late.Add(least)) {
			t.Errorf("want %v at least, got %v", least, at.Sub(late))
		}
	}
	if at := pace.next(c, pair.Leaf.NotBefore); at.Before(c.renewAt()) || pace.early != 0 {
		t.Error(at, pace.early)
	}
}

// A validation by the CA that we did not ask for is not answered.
func TestUnknownValidationIsNotAnswered(t *testing.T) {
	i := &issuer{tap: &backendTap{}, log: quiet()}
	for _, protos := range [][]string{nil, {"http/1.1"}, {acmeALPN}} {
		conf, err := i.answerValidation(&tls.ClientHelloInfo{ServerName: ownName, SupportedProtos: protos})
		if conf != nil || err != nil {
			t.Error(protos, conf, err)
		}
	}
}

// Without a backend an attempt fails instead of crashing.
func TestIssuerWithoutBackendFails(t *testing.T) {
	i := &issuer{tap: &backendTap{}, stateDir: t.TempDir(), log: quiet()}
	if r := i.attempt(t.Context(), ownName, time.Second, nil); r.err == nil || r.cert != nil {
		t.Errorf("%+v", r)
	}
}

// The CA's wish is read in both forms that HTTP has for it; none is no time at all.
func TestRetryAfterIsRead(t *testing.T) {
	for text, want := range map[string]time.Time{
		"3600": noon.Add(time.Hour), noon.Add(time.Minute).Format(http.TimeFormat): noon.Add(time.Minute), "": {}, "soon": {},
	} {
		if got := retryTime(http.Header{"Retry-After": {text}}, noon); !want.Equal(got) {
			t.Errorf("%q: want %v, got %v", text, want, got)
		}
	}
}

// The CA's "too many" is noticed while the backend's client says nothing, and nothing else is.
func TestLimitOfTheCAIsNoticedAtOnce(t *testing.T) {
	status, kind := http.StatusTooManyRequests, "application/problem+json"
	ca := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "60")
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
	}))
	defer ca.Close()
	tap := &backendTap{}
	var told []time.Time
	note := func(until time.Time) { told = append(told, until) }
	client := http.Client{Transport: limitWatch{http.DefaultTransport, tap}}
	for _, c := range []struct {
		listening bool
		status    int
		kind      string
		want      int
	}{
		{false, 429, "application/problem+json", 0}, {true, 429, "application/problem+json", 1},
		{true, 429, "text/html", 1}, {true, 201, "application/problem+json", 1},
	} {
		if status, kind = c.status, c.kind; c.listening {
			tap.limited.Store(&note)
		}
		res, err := client.Get(ca.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if c.want != len(told) {
			t.Errorf("%+v: told %d times", c, len(told))
		}
	}
	if wait := time.Until(told[0]); wait < 50*time.Second || wait > time.Minute {
		t.Error(wait)
	}
}

// A certificate counts once, for a week, and for its own name.
func TestCertificatesAreCounted(t *testing.T) {
	l := newLedger(t.TempDir())
	first, _ := newCertificate(t, ownName)
	second, _ := newCertificate(t, ownName)
	other, _ := newCertificate(t, "other.tail-box.ts.net")
	now := time.Now()
	for _, c := range []struct {
		name string
		pair *tls.Certificate
		now  time.Time
		want int
	}{
		{ownName, first, now, 1}, {ownName, first, now, 1}, {ownName, second, now, 2},
		{"other.tail-box.ts.net", other, now, 1}, {ownName, first, now.Add(8 * 24 * time.Hour), 0},
	} {
		if got, err := l.record(c.name, c.pair.Leaf, c.now); err != nil || c.want != got {
			t.Errorf("%s: want %d, got %d %v", c.name, c.want, got, err)
		}
	}
}

// A damaged count begins again; one that cannot be written is told.
func TestCountSurvivesItsFile(t *testing.T) {
	pair, _ := newCertificate(t, ownName)
	l := newLedger(t.TempDir())
	if err := os.WriteFile(l.path, []byte(`[{"dom`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := l.record(ownName, pair.Leaf, time.Now()); err != nil || got != 1 {
		t.Error(got, err)
	}
	if _, err := newLedger("/nowhere").record(ownName, pair.Leaf, time.Now()); err == nil {
		t.Error("nothing was said")
	}
}
