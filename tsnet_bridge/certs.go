package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tailscale.com/ipn/ipnext"
	"tailscale.com/ipn/ipnlocal"
	"tailscale.com/tsweb"
	"tailscale.com/types/logger"
)

const (
	// issueTimeout is long because a cancelled caller throws its order away.
	issueTimeout = 5 * time.Minute
	// wakeUp bounds each sleep, so that a suspended machine is not late.
	wakeUp = time.Hour
	// acmeALPN is the protocol of a tls-alpn-01 validation (RFC 8737).
	acmeALPN = "acme-tls/1"
)

// backendTap holds the LocalBackend that tsnet keeps to itself. In process, an
// issuance fails with a typed error, and its tls-alpn-01 challenge can be answered.
type backendTap struct {
	lb atomic.Pointer[ipnlocal.LocalBackend]
	// limited is called with the time until which the CA wants no more orders. The
	// backend's ACME client says nothing of it: it sleeps until then, or its end.
	limited atomic.Pointer[func(until time.Time)]
}

// registerTap must run before the first node starts; ipnext allows it once.
var registerTap = sync.OnceValue(func() *backendTap {
	t := &backendTap{}
	http.DefaultClient.Transport = limitWatch{http.DefaultTransport, t} // the ACME client's
	ipnext.RegisterExtension(t.Name(), func(_ logger.Logf, sb ipnext.SafeBackend) (ipnext.Extension, error) {
		if lb, ok := sb.(*ipnlocal.LocalBackend); ok {
			t.lb.Store(lb)
		}
		return t, nil
	})
	return t
})

// Name is the extension's name.
func (*backendTap) Name() string { return "repo-guardian" }

// Init does nothing: the tap only wants the backend.
func (*backendTap) Init(ipnext.Host) error { return nil }

// Shutdown does nothing.
func (*backendTap) Shutdown() error { return nil }

// limitWatch is a transport that notices the CA's "too many".
type limitWatch struct {
	next http.RoundTripper
	tap  *backendTap
}

// RoundTrip passes the request on.
func (w limitWatch) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := w.next.RoundTrip(req)
	if err == nil && res.StatusCode == http.StatusTooManyRequests && res.Header.Get("Content-Type") == "application/problem+json" {
		if told := w.tap.limited.Load(); told != nil {
			(*told)(retryTime(res.Header, time.Now()))
		}
	}
	return res, err
}

// retryTime reads Retry-After, seconds or a date (RFC 9110, 10.2.3); zero when
// there is none.
func retryTime(header http.Header, now time.Time) time.Time {
	text := header.Get("Retry-After")
	if s, err := strconv.Atoi(text); err == nil {
		return now.Add(time.Duration(s) * time.Second)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return time.Time{}
	}
	return at
}

// servedCert is the parsed certificate of one name.
type servedCert struct {
	domain string
	pair   *tls.Certificate
}

func (c *servedCert) notAfter() time.Time { return c.pair.Leaf.NotAfter }

// lifetime is how long the CA made the certificate.
func (c *servedCert) lifetime() time.Duration {
	return c.pair.Leaf.NotAfter.Sub(c.pair.Leaf.NotBefore)
}

// renewAt is the beginning of the last third of its life, which is also where
// the backend begins to renew (feature/acme/cert.go, domainRenewalTimeByExpiry).
func (c *servedCert) renewAt() time.Time { return c.notAfter().Add(-c.lifetime() / 3) }

// certReport is the outcome of one issuance or renewal.
type certReport struct {
	cert     *servedCert // nil when it failed
	inWeek   int         // certificates for this name within the CA's period
	err      error
	limited  bool
	retryAt  time.Time
	underway bool // limited, and the attempt goes on by itself
}

// issuer gets and renews the certificate of one name. It is the only caller:
// a second one would queue behind the first, or cancel its order.
type issuer struct {
	tap       *backendTap
	stateDir  string
	ledger    ledger
	log       *slog.Logger
	firstWait time.Duration // backoff after the first failure
	current   atomic.Pointer[servedCert]
	failures  atomic.Int64
}

func newIssuer(cfg config, log *slog.Logger) *issuer {
	firstWait := time.Minute
	if cfg.Loopback != "" {
		firstWait = time.Second // no real CA counts our failures
	}
	return &issuer{tap: registerTap(), stateDir: cfg.StateDir, ledger: newLedger(cfg.StateDir), log: log, firstWait: firstWait}
}

// run obtains the certificate of domain and keeps it valid until ctx ends.
func (i *issuer) run(ctx context.Context, domain string, report func(certReport)) {
	// A minimum, even a tiny one, keeps the backend from asking the CA about a
	// renewal before it hands out the cached certificate.
	inARow, least := 0, time.Second
	pace := renewalPace{first: i.firstWait}
	for ctx.Err() == nil {
		r := i.attempt(ctx, domain, least, report)
		if ctx.Err() != nil {
			return
		}
		var next time.Time
		if r.err == nil {
			inARow, least = 0, r.cert.lifetime()/3
			i.current.Store(r.cert)
			next = pace.next(r.cert, time.Now())
			r.inWeek = i.count(r.cert)
			i.log.Info("cert.loaded", "domain", domain, "not_after", r.cert.notAfter(), "renew_at", next, "issued_in_week", r.inWeek)
		} else {
			inARow++
			i.failures.Add(1)
			next = time.Now().Add(max(backoff(i.firstWait, inARow), time.Until(r.retryAt)))
			r.retryAt = next
			i.log.Warn("cert.failed", "domain", domain, "error", r.err.Error(), "retry_at", next)
		}
		report(r)
		sleepUntil(ctx, next)
	}
}

// renewalPace says when to renew, and keeps a CA whose certificates come in
// their last third, or close to it, from being asked in a loop.
type renewalPace struct {
	first  time.Duration
	loaded bool // the first one may be an old one of the disk, to be renewed at once
	early  int  // how many in a row were to be renewed before first was over
}

func (p *renewalPace) next(c *servedCert, now time.Time) time.Time {
	at := c.renewAt().Add(rand.N(c.lifetime()/50 + 1))
	if !p.loaded || at.After(now.Add(p.first)) {
		p.loaded, p.early = true, 0
		return at
	}
	p.early++
	return now.Add(backoff(p.first, p.early))
}

// backoff is first, then ten times as long for each failure, at most a hundred
// times: the CA allows five failed validations an hour.
func backoff(first time.Duration, failures int) time.Duration {
	wait := first
	for range min(failures-1, 2) {
		wait *= 10
	}
	return wait + rand.N(wait/10+1)
}

func sleepUntil(ctx context.Context, t time.Time) {
	for ctx.Err() == nil && time.Now().Before(t) {
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Until(t), wakeUp)):
		}
	}
}

// count adds the certificate to the ledger; a count that fails costs nothing else.
func (i *issuer) count(c *servedCert) int {
	inWeek, err := i.ledger.record(c.domain, c.pair.Leaf, time.Now())
	if err != nil {
		i.log.Warn("cert.not_counted", "error", err.Error())
	}
	if inWeek >= weeklyBudget-1 {
		i.log.Warn("cert.budget_low", "domain", c.domain, "issued_in_week", inWeek, "of", weeklyBudget,
			"hint", "keep state_dir: each start without it costs a certificate")
	}
	return inWeek
}

// attempt asks the backend once: the cached certificate comes back at once, a
// new one is issued when there is none that is valid for least.
func (i *issuer) attempt(ctx context.Context, domain string, least time.Duration, report func(certReport)) certReport {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	if err := checkFree(i.stateDir); err != nil {
		return certReport{err: err}
	}
	lb := i.tap.lb.Load()
	if lb == nil {
		return certReport{err: errors.New("the node has no backend yet")}
	}
	var limitedUntil atomic.Pointer[time.Time]
	told := func(until time.Time) {
		limitedUntil.Store(&until)
		if deadline, _ := ctx.Deadline(); until.After(deadline) {
			cancel() // it would sleep to its end for nothing
			return
		}
		report(certReport{err: errLimited, limited: true, retryAt: until, underway: true})
	}
	i.tap.limited.Store(&told)
	defer i.tap.limited.Store(nil)
	pems, err := lb.GetCertPEMWithValidity(ctx, domain, least)
	if err != nil {
		r := failedReport(err)
		if until := limitedUntil.Load(); until != nil {
			r.err, r.limited, r.retryAt = errLimited, true, *until
		}
		return r
	}
	pair, err := tls.X509KeyPair(pems.CertPEM, pems.KeyPEM)
	if err != nil {
		return certReport{err: fmt.Errorf("stored certificate: %w", err)}
	}
	return certReport{cert: &servedCert{domain, &pair}}
}

var errLimited = errors.New("it makes no more certificates for this name for now (429)")

// failedReport reads the limit of the CA out of the error: 429 and Retry-After.
func failedReport(err error) certReport {
	r := certReport{err: err}
	status, typed := errors.AsType[tsweb.HTTPStatuser](err)
	if !typed {
		return r
	}
	answer := status.HTTPStatus()
	r.limited = answer.Code == http.StatusTooManyRequests
	r.retryAt = retryTime(answer.Header, time.Now())
	return r
}

// tlsConfig makes the one config of the process. It serves only our own name; a
// hello with another one is answered "unrecognized name".
func (i *issuer) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			have := i.current.Load()
			if have == nil || !strings.EqualFold(strings.TrimSuffix(hello.ServerName, "."), have.domain) {
				return nil, nil
			}
			return have.pair, nil
		},
		GetConfigForClient: i.answerValidation,
	}
}

// answerValidation answers the CA's tls-alpn-01 validation of a renewal, which
// tsnet's own listener cannot: without it every renewal costs a failed one.
func (i *issuer) answerValidation(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if !slices.Contains(hello.SupportedProtos, acmeALPN) {
		return nil, nil
	}
	answer, linked := ipnlocal.HookGetACMETLSALPNCert.GetOk()
	lb := i.tap.lb.Load()
	if !linked || lb == nil {
		return nil, nil
	}
	cert, asked := answer(lb, hello)
	if !asked {
		return nil, nil
	}
	i.log.Debug("cert.validated", "domain", hello.ServerName)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}, NextProtos: []string{acmeALPN}}, nil
}
