package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/letsencrypt/pebble/v2/acme"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/core"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
)

const (
	defaultValidity = 90 * 24 * time.Hour // Let's Encrypt's
	profileName     = "default"
	settleTimeout   = 300 * time.Millisecond
)

// rateLimited is what Let's Encrypt answers to a sixth order for one name in a week.
const rateLimited = `{"type":"urn:ietf:params:acme:error:rateLimited","status":429,` +
	`"detail":"too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s"}`

// authority is the public certificate authority: Pebble, the ACME server that Let's
// Encrypt wrote for tests, which validates each name for real.
type authority struct {
	http      *switchable
	serverPEM []byte // the certificate of the ACME server itself
	ca        *ca.CAImpl
	validity  *uint64 // seconds, inside ca
}

// startAuthority starts the CA. It asks dnsAddr for records, and connects to tlsPort
// of a name's address for tls-alpn-01.
func startAuthority(dnsAddr string, tlsPort int, faults *faultBox, j *journal) (*authority, error) {
	if err := tamePebble(); err != nil {
		return nil, err
	}
	cert, serverPEM, err := newServerCert()
	if err != nil {
		return nil, err
	}
	logger := log.New(pebbleLog{j}, "", 0)
	store := db.NewMemoryStore()
	profiles := map[string]ca.Profile{profileName: {Description: "the only one", ValidityPeriod: seconds(defaultValidity)}}
	issuer := ca.New(logger, store, "", "ecdsa", 0, 1, profiles)
	validity, err := validityOf(issuer)
	if err != nil {
		return nil, err
	}
	front := wfe.New(logger, store, va.New(logger, 80, tlsPort, false, dnsAddr, store), issuer, nil, false, false, 1, 1)
	server, err := listenSwitchable(&tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return nil, err
	}
	server.serve(acmeFaults(front.Handler(), store, faults, j))
	return &authority{http: server, serverPEM: serverPEM, ca: issuer, validity: validity}, nil
}

// tamePebble switches off what Pebble does to harden its clients: random waits,
// refused nonces, and authorizations that are valid before they were tried, which
// the ACME client of Tailscale does not understand. Pebble has no other way to say so.
func tamePebble() error {
	return errors.Join(
		os.Setenv("PEBBLE_VA_NOSLEEP", "1"),
		os.Setenv("PEBBLE_WFE_NONCEREJECT", "0"),
		os.Setenv("PEBBLE_AUTHZREUSE", "0"),
	)
}

// validityOf finds the lifetime of certificates inside the CA. Pebble fixes it when
// it starts; a second CA would have another root and know no account.
func validityOf(issuer *ca.CAImpl) (*uint64, error) {
	profiles := reflect.ValueOf(issuer).Elem().FieldByName("profiles")
	if profiles.Kind() != reflect.Map {
		return nil, errors.New("this Pebble keeps its profiles elsewhere")
	}
	profile := profiles.MapIndex(reflect.ValueOf(profileName))
	if profile.Kind() != reflect.Pointer || profile.Type().Elem() != reflect.TypeFor[ca.Profile]() {
		return nil, errors.New("this Pebble keeps another kind of profile")
	}
	return &(*ca.Profile)(unsafe.Pointer(profile.Pointer())).ValidityPeriod, nil
}

// setValidity sets the lifetime of the certificates to come.
func (a *authority) setValidity(d time.Duration) { atomic.StoreUint64(a.validity, seconds(d)) }

// rootPEM returns the root that signs the names of the tailnet.
func (a *authority) rootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.ca.GetRootCert(0).Cert.Raw})
}

func (a *authority) addr() string { return a.http.addr }
func (a *authority) close() error { return a.http.close() }

// acmeFaults puts the faults of the CA in front of it.
func acmeFaults(next http.Handler, store *db.MemoryStore, faults *faultBox, j *journal) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		j.add(acmeLog, "%s %s", r.Method, r.URL.Path)
		f := faults.get()
		if r.URL.Path == "/order-plz" && f.acmeRetryAfter != "" {
			w.Header().Set("Retry-After", f.acmeRetryAfter)
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, rateLimited)
			return
		}
		if r.URL.Path == "/order-plz" && !pause(r.Context(), f.acmeDelay) {
			return
		}
		if order, ok := strings.CutPrefix(r.URL.Path, "/finalize-order/"); ok {
			// RFC 8555 does not ask for it, the client of Tailscale does: it polls there.
			w.Header().Set("Location", "https://"+r.Host+"/my-order/"+order)
		}
		next.ServeHTTP(w, r)
		settle(r, store)
	})
}

// settle holds the answer to a challenge, or to the end of an order, until the CA has done
// what it asks for, a few milliseconds. The client asks for its order next, and when that is
// not ready, again after a whole second.
func settle(r *http.Request, store *db.MemoryStore) {
	done := func() bool { return true }
	if id, ok := strings.CutPrefix(r.URL.Path, "/chalZ/"); ok {
		done = func() bool { return validated(store.GetChallengeByID(id)) }
	}
	if id, ok := strings.CutPrefix(r.URL.Path, "/finalize-order/"); ok {
		done = func() bool { return issued(store.GetOrderByID(id)) }
	}
	ctx, cancel := context.WithTimeout(r.Context(), settleTimeout)
	defer cancel()
	for !done() && pause(ctx, time.Millisecond) {
	}
}

// validated reports whether the CA has looked, with whatever result.
func validated(c *core.Challenge) bool {
	if c == nil {
		return true // it refused the request
	}
	c.Authz.RLock()
	defer c.Authz.RUnlock()
	return c.Authz.Status != acme.StatusPending
}

// issued reports whether the certificate is there, or will never be.
func issued(o *core.Order) bool {
	if o == nil {
		return true
	}
	o.RLock()
	defer o.RUnlock()
	return !o.BeganProcessing || o.CertificateObject != nil
}

// pebbleLog keeps those lines of Pebble's log that tell why a certificate was or was
// not issued.
type pebbleLog struct{ journal *journal }

// Write takes one line.
func (p pebbleLog) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	for _, word := range []string{"authz", "halleng", "ssued", "rror", "ailed", "order"} {
		if strings.Contains(text, word) {
			p.journal.add(acmeLog, "pebble: %s", text)
			break
		}
	}
	return len(line), nil
}

// seconds counts the whole seconds of a duration.
func seconds(d time.Duration) uint64 { return uint64(d / time.Second) }
