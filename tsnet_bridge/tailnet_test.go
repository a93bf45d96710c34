package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"tailscale.com/client/tailscale/apitype"
	"tailscale.com/tailcfg"
)

const adasNode = "laptop.tail-box.ts.net"

// knows lets the edge know Ada at a node, and counts how often it asks.
func (s *publicSide) knows(node string, err error) *atomic.Int64 {
	var asked atomic.Int64
	ask := func(_ context.Context, remoteAddr string) (*apitype.WhoIsResponse, error) {
		asked.Add(1)
		if host, _, splitErr := net.SplitHostPort(remoteAddr); splitErr != nil || host != "127.0.0.1" {
			return nil, fmt.Errorf("asked who %q is", remoteAddr)
		}
		return &apitype.WhoIsResponse{
			Node:        &tailcfg.Node{Name: node},
			UserProfile: &tailcfg.UserProfile{LoginName: "ada@example.com", DisplayName: "Ada Lovelace"},
		}, err
	}
	s.whoIs.Store(&ask)
	return &asked
}

func openStatus(t *testing.T) *publicSide {
	return open443(t, func(c *config) {
		brief(c)
		c.TailnetPaths = []string{"/status", "/status/deliveries"}
	})
}

const status200 = "GET /status?page=2 HTTP/1.1\r\nHost: " + ownName + "\r\nTailscale-User-Login: root@example.com\r\nTailscale-Funnel-Request: ?1\r\n\r\n"

// A member of the tailnet reads a page, and the parent knows who it is.
func TestMemberReadsAPage(t *testing.T) {
	s := openStatus(t)
	asked := s.knows(adasNode+".", nil)
	s.from("")
	if codes := s.answers(t, status200+status200); fmt.Sprint(codes) != "[202 202]" {
		t.Error(codes)
	}
	got := s.parent.last(t)
	want := map[string]string{
		"Tailscale-Node": adasNode, "Tailscale-User-Login": "ada@example.com", "Tailscale-User-Name": "Ada Lovelace",
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": ownName,
	}
	for name, value := range want {
		if values := got.header[name]; !slices.Equal([]string{value}, values) {
			t.Errorf("%s: want %q, got %q", name, value, values)
		}
	}
	if len(got.header) != len(want) || got.uri != "/status?page=2" {
		t.Error(got)
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times on one connection", asked.Load())
	}
}

// A member may also deliver, and nothing else; HEAD is a way of reading.
func TestMemberHasSomePathsOnly(t *testing.T) {
	s := openStatus(t)
	s.knows(adasNode+".", nil)
	s.from("")
	for line, want := range map[string]int{
		"GET /status": 202, "HEAD /status/deliveries": 202, "POST /webhooks/github": 202,
		"GET /": 404, "GET /status/": 404, "POST /status": 404, "GET /webhooks/github": 404, "GET /metrics": 404,
	} {
		res := s.say(t, line+" HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 0\r\n\r\n")
		if res.StatusCode != want {
			t.Errorf("%s: want %d, got %d", line, want, res.StatusCode)
		}
	}
	if res := s.say(t, "GET /status HTTP/1.1\r\nHost: "+ownName+"\r\nContent-Length: 4\r\n\r\nbody"); res.StatusCode != 400 {
		t.Error(res.StatusCode)
	}
}

// From the Funnel those pages do not exist, whatever the caller says it is.
func TestStrangerSeesNoPage(t *testing.T) {
	s := openStatus(t)
	asked := s.knows(adasNode+".", nil)
	if codes := s.answers(t, status200); fmt.Sprint(codes) != "[404]" {
		t.Error(codes)
	}
	s.answers(t, good)
	for name := range s.parent.last(t).header {
		if strings.HasPrefix(name, "Tailscale-") {
			t.Error(name)
		}
	}
	if asked.Load() != 0 {
		t.Error("the relay was taken for the caller")
	}
}

// Who cannot be named gets nothing, and the parent hears nothing.
func TestUnknownMemberIsRefused(t *testing.T) {
	s := openStatus(t)
	s.from("")
	for name, set := range map[string]func(){
		"nobody to ask":          func() { s.whoIs.Store(nil) },
		"the backend is away":    func() { s.knows(adasNode, errors.New("no backend")) },
		"a node without a name":  func() { s.knows("", nil) },
		"a name that is no text": func() { s.knows("\xff", nil) },
	} {
		set()
		for _, text := range []string{status200, good} {
			if res := s.say(t, text); res.StatusCode != 403 || !res.Close {
				t.Errorf("%s: %d", name, res.StatusCode)
			}
		}
	}
	s.counted(t, outcomeForbidden, 8)
	if bodies := s.parent.bodies(); bodies != nil {
		t.Error(bodies)
	}
}

// A tagged node has tags and no person; a person's name may have any letters.
func TestCallerIsReadAsServeReadsIt(t *testing.T) {
	profile := &tailcfg.UserProfile{LoginName: "ada@example.com", DisplayName: "Ada Lövelace\r\nX: y"}
	person := callerOf(&apitype.WhoIsResponse{Node: &tailcfg.Node{Name: "laptop.tail-box.ts.net."}, UserProfile: profile})
	tagged := callerOf(&apitype.WhoIsResponse{Node: &tailcfg.Node{Name: "ci.tail-box.ts.net.", Tags: []string{"tag:ci", "tag:x"}}, UserProfile: profile})
	for _, c := range []struct {
		who  tailnetCaller
		want http.Header
	}{
		{person, http.Header{
			"Tailscale-Node": {"laptop.tail-box.ts.net"}, "Tailscale-User-Login": {"ada@example.com"},
			"Tailscale-User-Name": {"=?utf-8?q?Ada_L=C3=B6velace=0D=0AX:_y?="},
		}},
		{tagged, http.Header{"Tailscale-Node": {"ci.tail-box.ts.net"}, "Tailscale-Tags": {"tag:ci,tag:x"}}},
	} {
		h := http.Header{}
		c.who.describe(h)
		if fmt.Sprint(c.want) != fmt.Sprint(h) {
			t.Errorf("want %q, got %q", c.want, h)
		}
	}
}

// The limits hold for each node of the tailnet as well.
func TestLimitsHoldInsideTheTailnet(t *testing.T) {
	s := open443(t, func(c *config) { c.Limits.SourceRate, c.TailnetPaths = 0.1, []string{"/status"} })
	s.knows(adasNode+".", nil)
	s.from("")
	for _, want := range []int{202, 429} {
		if res := s.say(t, status200); res.StatusCode != want {
			t.Errorf("want %d, got %d", want, res.StatusCode)
		}
	}
}
