package main

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"tailscale.com/client/tailscale/apitype"
)

// whoIsTimeout bounds the question who a caller is, which the backend of this
// process answers from memory.
const whoIsTimeout = 2 * time.Second

// whoIs is [local.Client.WhoIs].
type whoIs = func(ctx context.Context, remoteAddr string) (*apitype.WhoIsResponse, error)

// tailnetCaller is who a caller inside the tailnet is.
type tailnetCaller struct {
	Node  string // its name in the tailnet
	Login string // of the person; empty: a tagged node
	Name  string
	Tags  []string
}

// callerOf reads what the backend knows. A tagged node is nobody's, whoever
// enrolled it: Serve gives no person for it either.
func callerOf(who *apitype.WhoIsResponse) tailnetCaller {
	c := tailnetCaller{Node: strings.TrimSuffix(who.Node.Name, "."), Tags: who.Node.Tags}
	if !who.Node.IsTagged() {
		c.Login, c.Name = who.UserProfile.LoginName, who.UserProfile.DisplayName
	}
	return c
}

// caller asks who is at the other end, once for each connection. On a Funnel
// connection it must not be called: there it would be the relay.
func (c *publicConn) caller(ctx context.Context) (tailnetCaller, error) {
	c.asking.Do(func() {
		if c.who, c.whoErr = c.e.callerAt(ctx, c.RemoteAddr().String()); c.whoErr != nil {
			c.e.log.Warn("edge.caller_unknown", "client", c.addr.String(), "error", c.whoErr.Error())
		}
	})
	return c.who, c.whoErr
}

func (e *edge) callerAt(ctx context.Context, remoteAddr string) (tailnetCaller, error) {
	ask := e.whoIs.Load()
	if ask == nil {
		return tailnetCaller{}, errors.New("there is no backend to ask")
	}
	ctx, cancel := context.WithTimeout(ctx, whoIsTimeout)
	defer cancel()
	answer, err := (*ask)(ctx, remoteAddr)
	if err != nil {
		return tailnetCaller{}, err
	}
	who := callerOf(answer)
	if headerText(who.Node) == "" {
		return who, errors.New("a node without a name") // it would pass for the Funnel
	}
	return who, nil
}

// describe sets the headers that say who the caller is. Tailscale-Node is on
// every request from inside the tailnet and on no other.
func (t tailnetCaller) describe(h http.Header) {
	for name, value := range map[string]string{
		"Tailscale-Node":       t.Node,
		"Tailscale-User-Login": t.Login,
		"Tailscale-User-Name":  t.Name,
		"Tailscale-Tags":       strings.Join(t.Tags, ","),
	} {
		if value = headerText(value); value != "" {
			h.Set(name, value)
		}
	}
}

// headerText writes what is not ASCII as RFC 2047 does, like Tailscale Serve.
func headerText(v string) string {
	if !utf8.ValidString(v) {
		return ""
	}
	return mime.QEncoding.Encode("utf-8", v)
}
