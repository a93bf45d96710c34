package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tsnet"
)

// shared is the tailnet of most tests. There is one in the process, because an ACME
// client of this process can trust one CA: the system's roots are read once.
var shared *tailnet

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	stayOnLoopback()
	log.SetOutput(io.Discard)
	dir, err := os.MkdirTemp("", "tailnet-test-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if shared, err = startTailnet(context.Background(), dir); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, shared.close()) }()
	envknob.Setenv("TS_DEBUG_ACME_DIRECTORY_URL", shared.addresses.ACMEDirectory)
	if err := os.Setenv("SSL_CERT_FILE", shared.addresses.ACMECA); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// start returns the tailnet as it was at its start.
func start(t *testing.T) *tailnet {
	t.Helper()
	if err := shared.reset(); err != nil {
		t.Fatal(err)
	}
	return shared
}

// newNode makes a node that has not started.
func newNode(t *testing.T, tn *tailnet, host string) *tsnet.Server {
	t.Helper()
	node := newOwnNode(host, t.TempDir(), tn.addresses.ControlURL)
	t.Cleanup(func() { _ = closeInTime(node) })
	return node
}

// until starts the node and waits until its status is as ok wants it.
func until(t *testing.T, node *tsnet.Server, ok func(*ipnstate.Status) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	local, err := node.LocalClient()
	if err != nil {
		t.Fatal(err)
	}
	bus, err := local.WatchIPNBus(ctx, ipn.NotifyInitialState)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	for {
		if _, err := bus.Next(); err != nil {
			t.Fatal(err)
		}
		status, err := local.StatusWithoutPeers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if ok(status) {
			return
		}
	}
}

// inState is a status of a backend state.
func inState(want ipn.State) func(*ipnstate.Status) bool {
	return func(status *ipnstate.Status) bool { return status.BackendState == want.String() }
}

// named is the status of a node with a name, and a certificate for it.
func named(want string) func(*ipnstate.Status) bool {
	return func(status *ipnstate.Status) bool {
		return status.Self.DNSName == want+"." && slices.Equal(status.CertDomains, []string{want})
	}
}

// echo is a node with Funnel on, whose answer is where the request came from, its
// method and its body. Its certificate comes from the CA of the tailnet.
func echo(t *testing.T, tn *tailnet, host string) {
	t.Helper()
	node := newNode(t, tn, host)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	status, err := node.Up(ctx)
	if err != nil {
		t.Fatal(err)
	}
	local, err := node.LocalClient()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := local.CertPair(ctx, status.CertDomains[0])
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	ln, err := node.ListenFunnel("tcp", ":443", tsnet.FunnelOnly(), tsnet.FunnelTLSConfig(config))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = echoServer().Serve(ln) }()
}

type sourceKey struct{}

func echoServer() *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%v %s %s", r.Context().Value(sourceKey{}), r.Method, body)
		}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, sourceKey{}, c.(*tls.Conn).NetConn().(*ipn.FunnelConn).Src)
		},
	}
}

// outside is a client on the internet: it trusts the public CA and knows the relay.
func outside(t *testing.T, tn *tailnet) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(tn.addresses.PublicCA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", tn.addresses.Relay)
		},
	}
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func post(t *testing.T, c *http.Client, host, body string) string {
	t.Helper()
	res, err := c.Post("https://"+host+".tail-box.ts.net/", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// One node through all parts: enrolled, certified by dns-01, reached from outside.
func TestNodeIsReachedFromOutside(t *testing.T) {
	tn := start(t)
	tn.ca.setValidity(time.Hour)
	echo(t, tn, "hooks")
	client := outside(t, tn)

	t.Run("it sees the public address and a port for each connection", func(t *testing.T) {
		first, second := post(t, client, "hooks", "a"), post(t, client, "hooks", "b")
		if !strings.HasPrefix(first, "203.0.113.7:") || !strings.HasSuffix(first, " POST a") || first[:len(first)-1] == second[:len(second)-1] {
			t.Errorf("got %q and %q", first, second)
		}
		if err := tn.faults.set(url.Values{"client_address": {"2001:db8::1"}}); err != nil {
			t.Fatal(err)
		}
		if got := post(t, client, "hooks", ""); !strings.HasPrefix(got, "[2001:db8::1]:") {
			t.Errorf("got %q", got)
		}
	})

	t.Run("its certificate has the lifetime that was set", func(t *testing.T) {
		res, err := client.Get("https://hooks.tail-box.ts.net/")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		cert := res.TLS.PeerCertificates[0]
		if got := cert.NotAfter.Sub(cert.NotBefore).Round(time.Minute); got != time.Hour {
			t.Errorf("got %v", got)
		}
	})

	t.Run("a client that has said all still gets its answer", func(t *testing.T) {
		halfClose(t, client, tn)
	})

	t.Run("a test can ask as the ingress node", func(t *testing.T) {
		got := ask(t, tn, url.Values{
			"host": {"hooks"}, "papi": {"1"}, "as": {"ingress"}, "tls": {"hooks.tail-box.ts.net"}, "method": {"PUT"},
		})
		if got.Status != "200 OK" || got.Body != "203.0.113.66:6666 PUT " || got.Headers["Content-Length"] != "22" {
			t.Errorf("got %+v", got)
		}
	})

	t.Run("the public port fails as it is told, and comes back", func(t *testing.T) {
		publicPortFails(t, tn, client)
	})

	t.Run("a failure is in the log with its reason", func(t *testing.T) {
		if _, err := client.Get("https://nobody.tail-box.ts.net/"); err == nil {
			t.Error("nobody answered")
		}
		log := strings.Join(tn.journal.read()[relayLog], "\n")
		if !strings.Contains(log, `no such node: "nobody"`) {
			t.Errorf("the log is %q", log)
		}
	})

	t.Run("no other node can bring Funnel traffic", func(t *testing.T) {
		// Whatever the faults are: our own nodes meet none.
		if err := tn.faults.set(url.Values{"auth_key": {"k"}, "machine": {"1"}, "map_fault": {"503"}}); err != nil {
			t.Fatal(err)
		}
		got, err := tn.peer.try(t.Context(), attempt{host: "hooks", ingress: true})
		if err != nil || got.Status != "403 Forbidden" {
			t.Errorf("got %+v, %v", got, err)
		}
	})

	t.Run("the edge knows no node without the attribute", func(t *testing.T) {
		caps, err := parseCaps("https")
		if err != nil {
			t.Fatal(err)
		}
		if err := tn.control.setCaps("hooks", caps); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Get("https://hooks.tail-box.ts.net/"); err == nil {
			t.Error("it was reached")
		}
	})

	t.Run("a reset deletes it", func(t *testing.T) {
		if err := tn.reset(); err != nil {
			t.Fatal(err)
		}
		if _, err := tn.control.keyOf("hooks"); err == nil {
			t.Error("it is still there")
		}
	})
}

// publicPortFails sets each fault of the port, and looks what becomes of a connection that
// is open, of one that comes, and of one that comes when the fault is gone.
func publicPortFails(t *testing.T, tn *tailnet, client *http.Client) {
	t.Helper()
	config := client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = "hooks.tail-box.ts.net"
	for fault, want := range map[string]error{
		relayDown:  syscall.ECONNREFUSED,
		relayReset: syscall.ECONNRESET,
		relayCut:   io.EOF,
		relayStall: os.ErrDeadlineExceeded,
	} {
		open, err := shake(t, tn, config, helloTimeout)
		if err != nil {
			t.Fatal(err)
		}
		setFaults(t, tn, "relay="+fault)
		if !hungUp(open) {
			t.Errorf("%s: the connection that was open stays", fault)
		}
		limit := helloTimeout
		if fault == relayStall {
			limit = 100 * time.Millisecond
		}
		late, err := shake(t, tn, config, limit)
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", fault, err, want)
		}
		setFaults(t, tn, "relay=")
		if fault == relayStall && !hungUp(late) {
			t.Errorf("%s: the connection of that time stays", fault)
		}
		if got := post(t, client, "hooks", "back"); !strings.HasSuffix(got, "POST back") {
			t.Errorf("after %s: %q", fault, got)
		}
	}
	log := strings.Join(tn.journal.read()[relayLog], "\n")
	for _, fault := range []string{relayReset, relayCut, relayStall} {
		if !strings.Contains(log, "fault: "+fault) {
			t.Errorf("%s is not in the log: %q", fault, log)
		}
	}
}

// shake shakes hands at the public port.
func shake(t *testing.T, tn *tailnet, config *tls.Config, limit time.Duration) (net.Conn, error) {
	t.Helper()
	conn, err := net.Dial("tcp", tn.addresses.Relay)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, errors.Join(conn.SetDeadline(time.Now().Add(limit)), tls.Client(conn, config).Handshake())
}

// hungUp waits for the other side to end the connection.
func hungUp(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(helloTimeout)) // fails when it is closed, as read does
	_, err := io.Copy(io.Discard, conn)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// halfClose ends its side with a TLS close_notify and a FIN before it reads.
func halfClose(t *testing.T, client *http.Client, tn *tailnet) {
	t.Helper()
	conn, err := net.Dial("tcp", tn.addresses.Relay)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	config := client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = "hooks.tail-box.ts.net"
	secure := tls.Client(conn, config)
	fmt.Fprint(secure, "POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nend")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(secure), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil || !bytes.HasSuffix(text, []byte("POST end")) {
		t.Errorf("got %q, %v", text, err)
	}
}

// ask does what POST /peer does.
func ask(t *testing.T, tn *tailnet, form url.Values) result {
	t.Helper()
	a, err := parseAttempt(form)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tn.peer.try(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A dashboard knows its visitors by WhoIs.
func TestMemberOfTheTailnetIsAPerson(t *testing.T) {
	tn := start(t)
	node := newNode(t, tn, "board")
	ln, err := node.Listen("tcp", ":443")
	if err != nil {
		t.Fatal(err)
	}
	local, err := node.LocalClient()
	if err != nil {
		t.Fatal(err)
	}
	cert, _, err := newServerCert()
	if err != nil {
		t.Fatal(err)
	}
	visitors := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := local.WhoIs(r.Context(), r.RemoteAddr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("X-Login", who.UserProfile.LoginName)
		fmt.Fprint(w, who.UserProfile.DisplayName, " ", r.Method, " ", r.Host, " ", r.URL, " ", r.Header.Get("X-A"))
		fmt.Fprint(w, strings.Repeat(".", maxAnswer))
	})
	until(t, node, inState(ipn.Running))
	go func() {
		_ = http.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}}), visitors)
	}()
	got := ask(t, tn, url.Values{
		"host": {"board"}, "port": {"443"}, "tls": {"board.tail-box.ts.net"},
		"method": {"DELETE"}, "path": {"/status?x=%2e"}, "headers": {`{"x-a": "b", "host": "other"}`},
	})
	if got.Stage != "done" || got.Status != "200 OK" || got.Headers["X-Login"] != "ada@example.com" {
		t.Errorf("got %+v", got)
	}
	if want := "Ada Lovelace DELETE other /status?x=%2e b."; !strings.HasPrefix(got.Body, want) || len(got.Body) != maxAnswer {
		t.Errorf("got %d bytes of %.80q", len(got.Body), got.Body)
	}
}

// Let's Encrypt gives seconds; RFC 9110, 10.2.3 also allows a date.
func TestCAIsBusyWithEitherRetryAfter(t *testing.T) {
	tn := start(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(tn.ca.serverPEM)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for _, after := range []string{"3600", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)} {
		setFaults(t, tn, url.Values{"acme_429": {after}}.Encode())
		res, err := client.Post("https://"+tn.ca.addr()+"/order-plz", "application/jose+json", nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Retry-After"); res.StatusCode != http.StatusTooManyRequests || got != after {
			t.Errorf("%s with Retry-After %q, want %q", res.Status, got, after)
		}
	}
}

func TestProgramSaysWhereItIsAndEndsWithItsStdin(t *testing.T) {
	stdin, parent := io.Pipe()
	child, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(t.Context(), "", stdin, stdout) }()
	var ready addresses
	if err := json.NewDecoder(child).Decode(&ready); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{ready.Relay, ready.DNS, strings.TrimPrefix(ready.API, "http://"), strings.TrimPrefix(ready.ControlURL, "http://")} {
		if at, err := netip.ParseAddrPort(addr); err != nil || !at.Addr().IsLoopback() || at.Port() == 0 {
			t.Errorf("%q is no place on this machine", addr)
		}
	}
	if _, err := os.Stat(ready.PublicCA); err != nil {
		t.Error(err)
	}
	parent.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ready.PublicCA); !os.IsNotExist(err) {
		t.Errorf("its files are still there: %v", err)
	}
}

func TestAPITellsWhatIsWrong(t *testing.T) {
	tn := start(t)
	for path, want := range map[string]int{
		"/set?no_https=1":               http.StatusOK,
		"/set?no_such=1":                http.StatusBadRequest,
		"/delete?host=nobody":           http.StatusNotFound,
		"/login?url=http://x/":          http.StatusBadRequest,
		"/validity?s=0":                 http.StatusBadRequest,
		"/expire?host=ingress&in=x":     http.StatusBadRequest,
		"/rename?host=ingress&to=":      http.StatusBadRequest,
		"/caps?caps=funel":              http.StatusBadRequest,
		"/peer?host=ingress":            http.StatusBadRequest,
		"/peer?host=x&port=1&path=x":    http.StatusBadRequest,
		"/peer?host=x&port=1&headers=x": http.StatusBadRequest,
		"/control?up=perhaps":           http.StatusBadRequest,
		"/nodes":                        http.StatusMethodNotAllowed,
	} {
		res, err := http.Post(tn.addresses.API+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: got %s, want %d", path, res.Status, want)
		}
	}
}

// An unknown path must not reach testcontrol, which would end the process.
func TestControlLivesThroughUnknownRequests(t *testing.T) {
	tn := start(t)
	for _, path := range []string{"/", "/machine/x", "/admin", "/machine/tka/bootstrap"} {
		res, err := http.Get(tn.addresses.ControlURL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
}
