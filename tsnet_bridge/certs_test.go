package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
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
	if r := i.attempt(t.Context(), ownName, time.Second); r.err == nil || r.cert != nil {
		t.Errorf("%+v", r)
	}
}
