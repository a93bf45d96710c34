package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"tailscale.com/tsnet"
)

const (
	upTimeout = 15 * time.Second
	// closeTimeout bounds Server.Close, which hangs for ever after some 600
	// connections in a minute.
	closeTimeout = 2 * time.Second
	// unlistenTimeout bounds listener.Close, which asks the backend.
	unlistenTimeout = time.Second
	// listenAgain is the pause after a refusal; a change of the network map
	// ends it.
	listenAgain = 10 * time.Second
)

// openFunnel listens on the public port, and on the same port of the tailnet when
// something is served there. It must only be called for a node that runs:
// ListenFunnel itself would wait for that for ever.
func openFunnel(ctx context.Context, srv *tsnet.Server, cfg config, conf *tls.Config) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	if _, err := srv.Up(ctx); err != nil {
		return nil, err
	}
	options := []tsnet.FunnelOption{tsnet.FunnelTLSConfig(conf)}
	if len(cfg.TailnetPaths) == 0 {
		options = append(options, tsnet.FunnelOnly())
	}
	return srv.ListenFunnel("tcp", fmt.Sprintf(":%d", cfg.Port), options...)
}

// bounded runs f and gives it up after a while; it reports whether f ended.
func bounded(limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

// endSession closes one node in the order that loses nothing: stop taking
// connections (which also withdraws the public name), let what is in flight
// finish, end the bus watch (an open one holds Close for 5 s), close the node.
func (n *node) endSession(grace time.Duration) {
	s := n.session
	n.session = nil
	if s == nil {
		return
	}
	n.unlisten(s)
	n.finishRequests(grace)
	n.closeServer(s)
}

// unlisten stops taking connections and withdraws the public name.
func (n *node) unlisten(s *session) {
	if s.ln != nil && !bounded(unlistenTimeout, func() { s.ln.Close() }) {
		n.log.Warn("funnel.close_timed_out")
	}
}

func (n *node) closeServer(s *session) {
	s.cancel()
	// Close must not run beside or after a Start that did not succeed.
	if s.lc != nil && !bounded(closeTimeout, func() { s.srv.Close() }) {
		n.log.Warn("node.close_timed_out")
	}
}

// finishRequests waits for the requests in flight, then cuts them off. The edge
// serves nothing afterwards.
func (n *node) finishRequests(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	// Another error is the listener's, which is closed already.
	if err := n.edge.server.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
		n.log.Warn("edge.requests_cut", "after", grace)
		n.edge.server.Close()
	}
}
