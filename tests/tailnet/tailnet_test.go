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
	"strings"
	"testing"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/ipn"
	"tailscale.com/tsnet"
	"tailscale.com/types/logger"
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

// echo is a node with Funnel on, whose answer is where the request came from, its
// method and its body. Its certificate comes from the CA of the tailnet.
func echo(t *testing.T, tn *tailnet, host string) {
	t.Helper()
	node := &tsnet.Server{Hostname: host, Dir: t.TempDir(), ControlURL: tn.addresses.ControlURL, Logf: logger.Discard, UserLogf: logger.Discard}
	t.Cleanup(func() { _ = closeInTime(node) })
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
		"/set?no_https=1":           http.StatusOK,
		"/set?no_such=1":            http.StatusBadRequest,
		"/delete?host=nobody":       http.StatusNotFound,
		"/login?url=http://x/":      http.StatusBadRequest,
		"/validity?s=0":             http.StatusBadRequest,
		"/expire?host=ingress&in=x": http.StatusBadRequest,
		"/rename?host=ingress&to=":  http.StatusBadRequest,
		"/caps?caps=funel":          http.StatusBadRequest,
		"/peer?host=ingress":        http.StatusBadRequest,
		"/control?up=perhaps":       http.StatusBadRequest,
		"/nodes":                    http.StatusMethodNotAllowed,
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
