package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedBuffer is a stderr that a test reads while the process writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// process is run() with a parent's ends of its pipes.
type process struct {
	stdin   *io.PipeWriter
	stderr  *lockedBuffer
	control string
	state   string
	exit    chan int
}

// startProcess runs the bridge against a control server that is not there.
func startProcess(t *testing.T, change map[string]any) *process {
	t.Helper()
	dir := shortDir(t)
	p := &process{stderr: &lockedBuffer{}, control: filepath.Join(dir, "c.sock"), state: filepath.Join(dir, "state"), exit: make(chan int, 1)}
	document := clone(t, fixture[[]startCase](t, "start_valid.json")[0].Document)
	for name, value := range map[string]any{
		"state_dir": p.state, "control_socket": p.control, "app_socket": filepath.Join(dir, "a.sock"),
		"control_url": "http://127.0.0.1:1", "loopback": "127.0.0.1:1", "auth_key": aKey, "shutdown_grace_s": 1,
	} {
		document[name] = value
	}
	for name, value := range change {
		document[name] = value
	}
	reader, writer := io.Pipe()
	p.stdin = writer
	go func() { p.exit <- run(reader, p.stderr) }()
	raw, _ := json.Marshal(document)
	if _, err := writer.Write(append(raw, '\n')); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { writer.Close() })
	return p
}

func (p *process) ended(t *testing.T, want int) {
	t.Helper()
	select {
	case code := <-p.exit:
		if want != code {
			t.Errorf("want exit code %d, got %d: %s", want, code, p.stderr)
		}
	case <-time.After(5 * time.Second):
		t.Fatalf("still running: %s", p.stderr)
	}
}

// events reads the stream into a channel that is closed at its end.
func (p *process) events(t *testing.T) <-chan status {
	t.Helper()
	client := overSocket(p.control)
	var res *http.Response
	soon(t, "the control socket answers", func() bool {
		var err error
		res, err = client.Get("http://bridge/v1/events")
		return err == nil
	})
	t.Cleanup(func() { res.Body.Close() })
	out := make(chan status, 100)
	go func() {
		defer close(out)
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil && e.Status != nil {
				out <- *e.Status
			}
		}
	}()
	return out
}

func awaitCode(t *testing.T, events <-chan status, code string) status {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case doc, more := <-events:
			if !more {
				t.Fatalf("the stream ended before %s", code)
			}
			if code == doc.Code {
				return doc
			}
		case <-timeout:
			t.Fatalf("waited in vain for %s", code)
		}
	}
}

func awaitStopped(t *testing.T, events <-chan status) {
	t.Helper()
	var states []string
	for doc := range events {
		states = append(states, doc.State)
	}
	if text := strings.Join(states, " "); !strings.HasSuffix(text, "draining stopped") {
		t.Errorf("the last states were %s", text)
	}
}

// A wrong document ends the process with 2 and a last line that says why.
func TestWrongDocumentIsRefused(t *testing.T) {
	p := startProcess(t, map[string]any{"port": 444})
	p.ended(t, exitRefused)
	lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
	var last struct{ Level, Msg, Code, Message, Hint string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if last.Level != "error" || codeConfigInvalid != last.Code || !strings.Contains(last.Message, "port") || last.Hint == "" {
		t.Errorf("%+v", last)
	}
}

// A control server that is away is told and waited for; the parent's end stops us within a second.
func TestParentsEndStopsTheProcess(t *testing.T) {
	p := startProcess(t, nil)
	events := p.events(t)
	doc := awaitCode(t, events, codeControlUnreachable)
	if stateAuthenticating != doc.State || doc.Hint == "" || doc.URL != "" {
		t.Errorf("%+v", doc)
	}
	res, err := overSocket(p.control).Get("http://bridge/metrics")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(res.Body)
	res.Body.Close()
	checkExposition(t, string(text))
	start := time.Now()
	p.stdin.Close()
	p.ended(t, exitStopped)
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
	awaitStopped(t, events)
	if strings.Contains(p.stderr.String(), "SECRET") {
		t.Errorf("shows the key: %s", p.stderr)
	}
	if info, err := os.Stat(p.state); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info, err)
	}
}

// checkExposition wants every line in Prometheus' text format, with our prefix.
func checkExposition(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		var name string
		var value float64
		if strings.HasPrefix(line, "# ") {
			line = line[len("# HELP "):]
		} else if n, err := fmt.Sscan(line, &name, &value); n != 2 || err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if !strings.HasPrefix(line, metricPrefix) {
			t.Errorf("%q has not our prefix", line)
		}
	}
	for _, part := range []string{`bridge_state{state="authenticating"} 1`, `bridge_state{state="ready"} 0`, `requests_total{outcome="not_found"} 0`} {
		if !strings.Contains(text, part) {
			t.Errorf("the metrics lack %s", part)
		}
	}
}

// What is in the way is served as a status; drain ends the process.
func TestObstacleIsServedUntilTheDrain(t *testing.T) {
	file := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, map[string]any{"state_dir": filepath.Join(file, "state")})
	events := p.events(t)
	if doc := awaitCode(t, events, codeStateDirUnwritable); stateStarting != doc.State || doc.Hint == "" {
		t.Errorf("%+v", doc)
	}
	res, err := overSocket(p.control).Post("http://bridge/v1/drain", "", nil)
	if err != nil || res.StatusCode != 202 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	p.ended(t, exitStopped)
	awaitStopped(t, events)
}
