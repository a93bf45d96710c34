package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tailscale.com/ipn"
)

const ownName = "guard.tail-box.ts.net"

// funnelListener gives each connection what the real one has: TLS over a Funnel
// connection that knows the true client.
type funnelListener struct {
	net.Listener
	conf *tls.Config
	src  *atomic.Pointer[netip.AddrPort] // nil in it: a connection from inside the tailnet
}

func (l funnelListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if src := l.src.Load(); src != nil {
		c = &ipn.FunnelConn{Conn: c, Src: *src}
	}
	return tls.Server(c, l.conf), nil
}

// publicSide is an edge on a real listener with a real parent behind it.
type publicSide struct {
	*edge
	addr   string
	roots  *x509.CertPool
	parent *parent
	src    atomic.Pointer[netip.AddrPort]
}

// parent is the Unix socket server that Python would be.
type parent struct {
	srv    *http.Server
	mu     sync.Mutex
	got    []received
	answer atomic.Pointer[http.HandlerFunc] // nil: 202
}

type received struct {
	header http.Header
	host   string
	uri    string
	body   []byte
}

func (p *parent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if answer := p.answer.Load(); answer != nil {
		(*answer)(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.got = append(p.got, received{r.Header, r.Host, r.RequestURI, body})
	p.mu.Unlock()
	w.Header().Set("Server", "Python/3")
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprint(w, "queued")
}

// last is the latest request that reached the parent whole.
func (p *parent) last(t *testing.T) received {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.got) == 0 {
		t.Fatal("nothing reached the parent")
	}
	return p.got[len(p.got)-1]
}

func (p *parent) listen(t *testing.T, path string) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p.srv = &http.Server{Handler: p}
	go p.srv.Serve(ln)
	t.Cleanup(func() { p.srv.Close() })
}

func newCertificate(t *testing.T, name string) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(2 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}

func open443(t *testing.T, change func(*config)) *publicSide {
	t.Helper()
	cfg := smallConfig(t)
	if change != nil {
		change(&cfg)
	}
	pair, roots := newCertificate(t, ownName)
	certs := &issuer{tap: &backendTap{}, log: quiet()}
	certs.current.Store(&servedCert{ownName, pair})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	side := &publicSide{edge: newEdge(cfg, quiet()), addr: ln.Addr().String(), roots: roots, parent: &parent{}}
	side.parent.listen(t, cfg.AppSocket)
	side.from("203.0.113.7")
	name := ownName
	side.ownName.Store(&name)
	go side.serve(funnelListener{ln, certs.tlsConfig(), &side.src})
	t.Cleanup(func() { ln.Close(); side.server.Close() })
	return side
}

// from sets where the next connections come from; empty: from inside the tailnet.
func (s *publicSide) from(addr string) {
	if addr == "" {
		s.src.Store(nil)
		return
	}
	src := netip.AddrPortFrom(netip.MustParseAddr(addr), 5555)
	s.src.Store(&src)
}

// dial opens one public TLS connection.
func (s *publicSide) dial(t *testing.T) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.roots, ServerName: ownName})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	return conn
}

// say writes bytes as they are and reads one answer.
func (s *publicSide) say(t *testing.T, text string) *http.Response {
	t.Helper()
	conn := s.dial(t)
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(text, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// post sends a body of known or unknown length with some headers.
func (s *publicSide) post(t *testing.T, body io.Reader, header http.Header) *http.Response {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dialer := tls.Dialer{Config: &tls.Config{RootCAs: s.roots, ServerName: ownName}}
			return dialer.DialContext(ctx, "tcp", s.addr)
		},
	}}
	req, err := http.NewRequest("POST", "https://"+ownName+"/webhooks/github?x=1", body)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func (s *publicSide) counted(t *testing.T, o outcome, want int64) {
	t.Helper()
	soon(t, fmt.Sprintf("%d requests are %s", want, o), func() bool { return s.requests[o].Load() == want })
}

// A delivery reaches the parent byte for byte, with Host, query and the true caller.
func TestDeliveryReachesTheParentUnchanged(t *testing.T) {
	s := open443(t, nil)
	body := make([]byte, 1000)
	rand.Read(body)
	res := s.post(t, bytes.NewReader(body), http.Header{"X-Hub-Signature-256": {"sha256=00"}})
	if text, _ := io.ReadAll(res.Body); res.StatusCode != 202 || string(text) != "queued" || res.Header.Get("Server") != "" {
		t.Error(res.StatusCode, string(text), res.Header)
	}
	got := s.parent.last(t)
	if !bytes.Equal(body, got.body) || ownName != got.host || got.uri != "/webhooks/github?x=1" || got.header.Get("X-Hub-Signature-256") != "sha256=00" {
		t.Error(got)
	}
	for name, want := range map[string]string{"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": ownName} {
		if values := got.header[name]; !slices.Equal([]string{want}, values) {
			t.Errorf("%s: want %s, got %q", name, want, values)
		}
	}
	s.counted(t, outcomeForwarded, 1)
}

// No header that we did not get is added.
func TestNothingIsAddedToADelivery(t *testing.T) {
	s := open443(t, nil)
	s.say(t, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 5\r\n\r\nabcde")
	got := s.parent.last(t)
	want := []string{"Content-Length", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}
	if names := slices.Sorted(maps.Keys(got.header)); string(got.body) != "abcde" || !slices.Equal(want, names) {
		t.Errorf("want %q, got %q with %q", want, names, got.body)
	}
}

// What a caller says about itself is taken away.
func TestSpoofedHeadersAreRemoved(t *testing.T) {
	s := open443(t, nil)
	header := http.Header{"X-GitHub-Event": {"push"}}
	for _, name := range []string{
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Real-Ip",
		"Tailscale-User-Login", "Tailscale-Node", "Tailscale-Funnel-Request", "X-Tailscale-Anything",
		"X_Forwarded_For", "X_Real_IP", "Tailscale_User_Login", "Upgrade", "Expect",
	} {
		header[name] = []string{"spoofed"}
	}
	header["Connection"] = []string{"upgrade, X-Forwarded-For"}
	delete(header, "Expect") // Go's client would wait for the 100
	s.post(t, strings.NewReader("x"), header)
	got := s.parent.last(t).header
	for name, values := range got {
		if slices.Contains(values, "spoofed") {
			t.Errorf("%s: %q reached the parent", name, values)
		}
	}
	if got.Get("X-Forwarded-For") != "203.0.113.7" || got.Get("X-Github-Event") != "push" {
		t.Error(got)
	}
}

// Only the exact path with POST exists; the rest is 404 with nothing in it.
func TestEverythingElseIsNotFound(t *testing.T) {
	s := open443(t, nil)
	lines := []string{
		"GET /webhooks/github", "HEAD /webhooks/github", "PUT /webhooks/github", "POST /", "POST /webhooks/github/",
		"POST /webhooks//github", "POST /webhooks/./github", "POST /x/../webhooks/github", "POST /webhooks/gith%75b",
		"POST https://" + ownName + "/webhooks/github", "OPTIONS *", "GET /.well-known/acme-challenge/x", "post /webhooks/github",
	}
	for _, line := range lines {
		res := s.say(t, line+" HTTP/1.1\r\nHost: "+ownName+"\r\n\r\n")
		body, _ := io.ReadAll(io.LimitReader(res.Body, 1))
		if res.StatusCode != 404 || !res.Close || len(body) != 0 || res.ContentLength > 0 {
			t.Errorf("%s: %d %q", line, res.StatusCode, body)
		}
	}
	s.counted(t, outcomeNotFound, int64(len(lines)))
	if len(s.parent.got) != 0 {
		t.Error("the parent was bothered")
	}
}

// A body that is announced too large is refused before it is sent.
func TestAnnouncedLargeBodyIsRefusedAtOnce(t *testing.T) {
	s := open443(t, nil)
	res := s.say(t, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 1001\r\n\r\n")
	if res.StatusCode != 413 || !res.Close {
		t.Error(res.StatusCode, res.Close)
	}
	s.counted(t, outcomeTooLarge, 1)
}

// A parent that is away is 503 at once, with a time to come back.
func TestParentAwayIsUnavailableAtOnce(t *testing.T) {
	s := open443(t, nil)
	s.parent.srv.Close()
	start := time.Now()
	res := s.post(t, strings.NewReader("x"), nil)
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "5" || time.Since(start) > 500*time.Millisecond {
		t.Error(res.StatusCode, res.Header, time.Since(start))
	}
	s.counted(t, outcomeUnavailable, 1)
}

// A parent that dies over a request, or never answers, is 503 too.
func TestParentThatDoesNotAnswerIsUnavailable(t *testing.T) {
	s := open443(t, nil)
	for _, answer := range []http.HandlerFunc{
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		s.parent.answer.Store(&answer)
		if res := s.post(t, strings.NewReader("x"), nil); res.StatusCode != 503 {
			t.Error(res.StatusCode)
		}
	}
	s.counted(t, outcomeUnavailable, 2)
}

// A caller that is slow with its body is told so; one that goes away is counted.
func TestSlowAndAbortedBodies(t *testing.T) {
	s := open443(t, nil)
	head := "POST /webhooks/github HTTP/1.1\r\nHost: " + ownName + "\r\nContent-Length: 10\r\n\r\nabc"
	if res := s.say(t, head); res.StatusCode != 408 {
		t.Error(res.StatusCode)
	}
	s.counted(t, outcomeTimeout, 1)
	conn := s.dial(t)
	io.WriteString(conn, head)
	conn.Close()
	s.counted(t, outcomeAborted, 1)
}

// A body that is still on its way when our time is over is the caller's fault, not the parent's.
func TestBodyThatOutlastsTheForwardIsTooSlow(t *testing.T) {
	s := open443(t, func(c *config) { c.Limits.ReadTimeout = time.Minute })
	res := s.say(t, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 10\r\n\r\nabc")
	if res.StatusCode != 408 || !res.Close || s.parentAway.Load() {
		t.Error(res.StatusCode, res.Close, s.parentAway.Load())
	}
	s.counted(t, outcomeTimeout, 1)
}

// A header that does not end, and one that is too large, cost one connection for a short time.
func TestSlowAndLargeHeadersAreClosed(t *testing.T) {
	s := open443(t, nil)
	conn := s.dial(t)
	start := time.Now()
	io.WriteString(conn, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\n")
	if rest, err := io.ReadAll(conn); len(rest) != 0 || errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) > 2*time.Second {
		t.Errorf("%q %v after %v", rest, err, time.Since(start))
	}
	res := s.say(t, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\nX-Long: "+strings.Repeat("x", 9000)+"\r\n\r\n")
	if res.StatusCode != 431 {
		t.Error(res.StatusCode)
	}
}

// Over the limit each connection gets its 503; far over it none is even read.
func TestConnectionsOverTheLimitGetTheirAnswer(t *testing.T) {
	s := open443(t, func(c *config) {
		c.Limits.MaxConnections = 2
		c.Limits.ReadHeaderTimeout, c.Limits.IdleTimeout = 5*time.Second, 5*time.Second
	})
	for range 2 {
		s.dial(t)
	}
	soon(t, "both are open", func() bool { return s.open.Load() == 2 })
	res := s.say(t, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 1\r\n\r\nx")
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "5" || !res.Close {
		t.Error(res.StatusCode, res.Header)
	}
	s.counted(t, outcomeBusy, 1)
	soon(t, "the third is closed", func() bool { return s.open.Load() == 2 })
	for range 2 {
		s.dial(t)
	}
	if conn, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.roots, ServerName: ownName}); err == nil {
		conn.Close()
		t.Error("a fifth connection was taken")
	}
	if got := s.unread[unreadCap].Load(); got != 1 {
		t.Error(got)
	}
}

// Only our own name is served, with TLS 1.2 at least and HTTP/1.1 only.
func TestOnlyOwnNameIsServed(t *testing.T) {
	s := open443(t, nil)
	if conn, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: strings.ToUpper(ownName), RootCAs: s.roots}); err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	for _, name := range []string{"other.tail-box.ts.net", ""} {
		_, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: ownName, RootCAs: s.roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 was taken")
	}
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: ownName, RootCAs: s.roots, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil || conn.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Error(err, conn)
	}
	for reason, want := range map[handshakeReason]int64{handshakeUnknownName: 2, handshakeVersion: 1} {
		soon(t, "it is counted: "+reason.String(), func() bool { return s.handshakes[reason].Load() == want })
	}
}
