package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

const good = "POST /webhooks/github HTTP/1.1\r\nHost: " + ownName + "\r\nContent-Length: 4\r\n\r\ngood"

// brief has connections that end soon after their last answer.
func brief(c *config) { c.Limits.IdleTimeout = 50 * time.Millisecond }

// answers writes bytes as they are, reads until the connection ends and returns
// the status of each answer.
func (s *publicSide) answers(t *testing.T, text string) (codes []int) {
	t.Helper()
	conn := s.dial(t)
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after %v the connection stays", codes)
			}
			return codes
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
		codes = append(codes, res.StatusCode)
	}
}

// bodies are those of the requests that reached the parent.
func (p *parent) bodies() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.got {
		all = append(all, string(r.body))
	}
	p.got = nil
	return all
}

// What is not well-formed gets one answer, is counted, and nothing of it, or of
// what follows it, reaches the parent.
func TestIllFormedRequestsNeverReachTheParent(t *testing.T) {
	s := open443(t, brief)
	for i, c := range illFormed {
		text := strings.Replace(c.text, "Host: h\r\n", "Host: "+ownName+"\r\n", 1)
		if codes := s.answers(t, text+good); fmt.Sprint([]int{c.code}) != fmt.Sprint(codes) {
			t.Errorf("%s: want %d, got %d", c.name, c.code, codes)
		}
		if bodies := s.parent.bodies(); bodies != nil {
			t.Errorf("%s: the parent got %q", c.name, bodies)
		}
		s.counted(t, outcomeMalformed, int64(i+1))
	}
	if codes := s.answers(t, good); fmt.Sprint(codes) != "[202]" {
		t.Errorf("a good one gets %d", codes)
	}
}

// What net/http refuses without asking the handler is counted as well.
func TestRefusalsOfTheServerAreCounted(t *testing.T) {
	s := open443(t, brief)
	for i, c := range []struct {
		text string
		code int
	}{
		{"POST /%zz HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n", 400},
		{"POST /webhooks/github HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
		{"POST /webhooks/github HTTP/1.1\r\nHost: " + ownName + "\r\nContent-Length: 1\r\nExpect: tea\r\n\r\nx", 417},
	} {
		if codes := s.answers(t, c.text); fmt.Sprint([]int{c.code}) != fmt.Sprint(codes) {
			t.Errorf("%q: %d", c.text, codes)
		}
		s.counted(t, outcomeMalformed, int64(i+1))
	}
}

// A delivery without a length is told to give one.
func TestDeliveryNeedsALength(t *testing.T) {
	s := open443(t, brief)
	if codes := s.answers(t, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\n\r\n"+good); fmt.Sprint(codes) != "[411]" {
		t.Error(codes)
	}
	if codes := s.answers(t, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 0\r\n\r\n"); fmt.Sprint(codes) != "[202]" {
		t.Error(codes)
	}
}

// Requests in a row are judged one by one; what follows a refused one is not read.
func TestPipelinedRequestsAreJudgedOneByOne(t *testing.T) {
	s := open443(t, brief)
	one := func(body string) string { return strings.Replace(good, "good", body, 1) }
	scan := "GET /.env HTTP/1.1\r\nHost: " + ownName + "\r\n\r\n"
	for _, c := range []struct {
		name, text, codes, bodies string
	}{
		{"three good ones", one("aaaa") + one("bbbb") + one("cccc"), "[202 202 202]", `["aaaa" "bbbb" "cccc"]`},
		{"a scan between", one("aaaa") + scan + one("bbbb"), "[202 404]", `["aaaa"]`},
		{"a scan first", scan + one("aaaa"), "[404]", `[]`},
		{"an ill-formed one between", one("aaaa") + "GET / HTTP/1.1\n\n" + one("bbbb"), "[202 400]", `["aaaa"]`},
		{"LF between", one("aaaa") + "\n" + one("bbbb"), "[202 400]", `["aaaa"]`},
		{"CRLF between", one("aaaa") + "\r\n" + one("bbbb"), "[202 400]", `["aaaa"]`},
		{"a NUL between", one("aaaa") + "\x00" + one("bbbb"), "[202 400]", `["aaaa"]`},
		{"a request in a body", one("GET ") + one("bbbb"), "[202 202]", `["GET " "bbbb"]`},
		{"a request in a refused body", strings.Replace(scan, "\r\n\r\n", "\r\nContent-Length: 104\r\n\r\n", 1) + one("aaaa"), "[404]", `[]`},
	} {
		codes := s.answers(t, c.text)
		if bodies := fmt.Sprintf("%q", s.parent.bodies()); fmt.Sprint(codes) != c.codes || bodies != c.bodies {
			t.Errorf("%s: want %s and %s, got %d and %s", c.name, c.codes, c.bodies, codes, bodies)
		}
	}
}

// An ill-formed request that is read ahead does not cut off the answer before it.
func TestReadAheadCutsNothingOff(t *testing.T) {
	s := open443(t, func(c *config) { c.Limits.WriteTimeout = 5 * time.Second })
	entered, finish := make(chan struct{}), make(chan struct{})
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		close(entered)
		select {
		case <-finish:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusAccepted)
	})
	s.parent.answer.Store(&answer)
	conn := s.dial(t)
	io.WriteString(conn, good)
	<-entered
	io.WriteString(conn, "\nGET / HTTP/1.1\n\n")
	time.Sleep(20 * time.Millisecond) // for the read ahead, which nothing tells of
	close(finish)
	reader := bufio.NewReader(conn)
	for _, want := range []int{202, 400} {
		if res, err := http.ReadResponse(reader, nil); err != nil || res.StatusCode != want {
			t.Error(want, res, err)
		}
	}
}

// Only our own name is served, with our port or none.
func TestHostMustBeOurs(t *testing.T) {
	s := open443(t, brief)
	for host, want := range map[string]int{
		ownName: 202, strings.ToUpper(ownName): 202, ownName + ".": 202, ownName + ":443": 202,
		ownName + ":8443": 404, ownName + ":": 404, "x." + ownName: 404, "localhost": 404, "127.0.0.1": 404, "": 404,
		ownName + "@evil.example": 400, // by net/http
	} {
		if codes := s.answers(t, strings.Replace(good, ownName, host, 1)); fmt.Sprint([]int{want}) != fmt.Sprint(codes) {
			t.Errorf("%q: want %d, got %d", host, want, codes)
		}
	}
	s.ownName.Store(nil)
	if codes := s.answers(t, strings.Replace(good, ownName, "localhost", 1)); fmt.Sprint(codes) != "[202]" {
		t.Errorf("without a name of our own: %d", codes)
	}
}

// Who waits for a 100 gets one when the body is wanted, and else the refusal.
func TestExpectIsSettledHere(t *testing.T) {
	s := open443(t, nil)
	conn := s.dial(t)
	io.WriteString(conn, "POST /webhooks/github HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	reader := bufio.NewReader(conn)
	if res, err := http.ReadResponse(reader, nil); err != nil || res.StatusCode != 100 {
		t.Fatal(res, err)
	}
	io.WriteString(conn, "good")
	if res, err := http.ReadResponse(reader, nil); err != nil || res.StatusCode != 202 {
		t.Fatal(res, err)
	}
	if got := s.parent.last(t); string(got.body) != "good" || got.header["Expect"] != nil {
		t.Error(got)
	}
	start := time.Now()
	res := s.say(t, "POST / HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	if res.StatusCode != 404 || time.Since(start) > time.Second {
		t.Error(res.StatusCode, time.Since(start))
	}
}

// A body that is refused and does not come holds its connection for a moment only.
func TestRefusedBodyIsNotWaitedFor(t *testing.T) {
	s := open443(t, func(c *config) { c.Limits.ReadTimeout, c.Limits.MaxBody = time.Minute, 1<<20 })
	for _, length := range []int{10, 300_000} {
		conn := s.dial(t)
		start := time.Now()
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", ownName, length)
		if _, err := io.ReadAll(conn); err != nil || time.Since(start) > 2*time.Second {
			t.Error(err, time.Since(start))
		}
	}
}

// A caller that goes on sending still gets its refusal.
func TestRefusalArrivesThroughAFlood(t *testing.T) {
	s := open443(t, nil)
	conn := s.dial(t)
	go io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+ownName+"\r\n"+strings.Repeat("X: y\r\n", 30_000))
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 431 {
		t.Error(res, err)
	}
}

// A request to switch protocols is an ordinary one.
func TestUpgradeIsNotForwarded(t *testing.T) {
	s := open443(t, brief)
	text := strings.Replace(good, "\r\nContent", "\r\nConnection: Upgrade, HTTP2-Settings, Content-Length\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\nContent", 1)
	if codes := s.answers(t, text); fmt.Sprint(codes) != "[202]" {
		t.Error(codes)
	}
	got := s.parent.last(t)
	for _, name := range []string{"Upgrade", "Connection", "Http2-Settings"} {
		if got.header[name] != nil {
			t.Error(name, got.header[name])
		}
	}
	if string(got.body) != "good" {
		t.Errorf("%q", got.body)
	}
}
