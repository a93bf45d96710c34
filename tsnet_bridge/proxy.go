package main

import (
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"
)

const (
	// idleToParent is shorter than the parent's own 120 s, so that the parent
	// never closes a connection at the moment we send on it.
	idleToParent = 30 * time.Second
	// connectToParent is long for a Unix socket: a full backlog is no answer.
	connectToParent = 2 * time.Second
	copyBuffer      = 32 << 10
)

// newProxy forwards to the parent's Unix socket. The body goes through byte for
// byte and Host stays, because the signature is made over one and links are
// made from the other.
func newProxy(
	socket string,
	answered func(*http.Response) error,
	failed func(http.ResponseWriter, *http.Request, error),
) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        rewrite,
		ModifyResponse: answered,
		ErrorHandler:   failed,
		BufferPool:     &bufferPool{},
		ErrorLog:       slogLines(func(string) {}), // failed and the counters tell it
		Transport:      &parentTransport{socket: socket, dialer: net.Dialer{Timeout: connectToParent}},
	}
}

// rewrite takes away what a caller may not say about itself and says it.
func rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host = "http", "parent"
	p.Out.Host = p.In.Host
	for name := range p.Out.Header {
		if spoofable(name) {
			delete(p.Out.Header, name)
		}
	}
	c := connOf(p.In.Context())
	if c.addr.IsValid() {
		p.Out.Header.Set("X-Forwarded-For", c.addr.String())
	}
	p.Out.Header.Set("X-Forwarded-Proto", "https")
	p.Out.Header.Set("X-Forwarded-Host", p.In.Host)
	if c.tailnet {
		c.who.describe(p.Out.Header)
	}
}

// spoofable reports whether only the edge may set this header; its name is in
// net/http's own form. Upgrade and Expect are settled on this side: the parent
// gets plain requests only. Some servers read '_' as '-'.
func spoofable(name string) bool {
	if strings.Contains(name, "_") {
		name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	}
	switch name {
	case "Forwarded", "X-Real-Ip", "Upgrade", "Connection", "Expect":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Tailscale-") ||
		strings.HasPrefix(name, "X-Tailscale-")
}

// bufferPool saves two fifths of all allocated bytes.
type bufferPool struct{ pool sync.Pool }

// Get returns a buffer for copying a body.
func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, copyBuffer)
}

// Put takes a buffer back.
func (b *bufferPool) Put(p []byte) { b.pool.Put(&p) }
