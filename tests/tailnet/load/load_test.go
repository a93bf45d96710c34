package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// node is a stand-in for the relay and what is behind it; it refuses so many
// requests first.
type node struct {
	arguments []string
	requests  atomic.Int64
	conns     atomic.Int64
}

func startNode(t *testing.T, refuse int64) *node {
	t.Helper()
	n := &node{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if n.requests.Add(1) <= refuse || r.Method != http.MethodPost || len(body) != 1000 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		accepted(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			n.conns.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	if err := os.WriteFile(ca, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	n.arguments = []string{
		"-relay", server.Listener.Addr().String(), "-host", "example.com", "-ca", ca, "-body", "1000",
	}
	return n
}

// figuresOf runs a command of the program and reads its last line.
func figuresOf(t *testing.T, into any, arguments ...string) {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), arguments, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), into); err != nil {
		t.Fatalf("%v in %q", err, out.String())
	}
}

func TestGenerateSendsAsOftenAsAsked(t *testing.T) {
	for _, c := range []struct {
		renew string
		conns int64
	}{{"false", 4}, {"true", 40}} {
		n := startNode(t, 0)
		var got figures
		figuresOf(t, &got, append([]string{"generate", "-callers", "4", "-count", "40", "-new=" + c.renew}, n.arguments...)...)
		if got.Requests != 40 || got.Errors != 0 || n.requests.Load() != 40 || n.conns.Load() != c.conns {
			t.Errorf("new=%s: got %+v, %d requests on %d connections", c.renew, got, n.requests.Load(), n.conns.Load())
		}
		if got.P50 <= 0 || got.P99 < got.P50 || got.Max < got.P99 || got.RPS <= 0 {
			t.Errorf("new=%s: got %+v", c.renew, got)
		}
	}
}

func TestGenerateCountsOnlyWhatIsAccepted(t *testing.T) {
	n := startNode(t, 3)
	var got figures
	figuresOf(t, &got, append([]string{"generate", "-callers", "1", "-warm", "0", "-seconds", "0.3"}, n.arguments...)...)
	if got.Errors != 3 || got.Error != "503 Service Unavailable" || got.Requests == 0 {
		t.Errorf("got %+v", got)
	}
}

func TestFirstGoesOnUntilThereIsAnAnswer(t *testing.T) {
	n := startNode(t, 2)
	var got firstAnswer
	figuresOf(t, &got, append([]string{"first", "-every", "5ms"}, n.arguments...)...)
	if got.Refused != 2 || got.Sent < 3 || got.At < 1e9 || got.Took <= 0 {
		t.Errorf("got %+v", got)
	}
}

func TestFirstGivesUpAndSaysWhatTheLastErrorWas(t *testing.T) {
	n := startNode(t, 1000)
	err := run(t.Context(), append([]string{"first", "-limit", "200ms"}, n.arguments...), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v", err)
	}
}

func TestCPUOfThisProcessGrows(t *testing.T) {
	own := pidList{os.Getpid()}
	before, err := own.cpu()
	if err != nil {
		t.Fatal(err)
	}
	for now := before; now == before; {
		if now, err = own.cpu(); err != nil {
			t.Fatal(err)
		}
	}
	if err := own.Set("1,x"); err == nil {
		t.Error("x is no process")
	}
}
