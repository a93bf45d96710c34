package main

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	// looksToDown is how many looks in a row fail before the path counts as down,
	// and before the next remedy is tried.
	looksToDown = 3
	lookAgain   = 5 * time.Second
	// lookEarly is the pause between looks before the peers are greeted.
	lookEarly = 50 * time.Millisecond
)

// remedy is what is done about a public path that is down.
type remedy int

const (
	remedyNone         remedy = iota
	remedyListenAgain         // the Funnel is withdrawn and opened again
	remedyReplaceChild        // this process asks its parent for a new one
)

// nextRemedy climbs the ladder: listen again, then a new process, then only wait.
// rung is the last remedy that was tried; curable counts the looks in a row, since
// then, that failed where this node may mend it.
func nextRemedy(rung remedy, curable int, repaired bool) remedy {
	switch {
	case curable < looksToDown:
		return remedyNone
	case rung == remedyNone:
		return remedyListenAgain
	case rung == remedyListenAgain && !repaired:
		return remedyReplaceChild
	}
	return remedyNone
}

// watchdog is what the node knows of its public path. The node owns it.
type watchdog struct {
	last     look
	answered bool // since this name is served
	failures int  // in a row
	curable  int  // of these since the last remedy, in a row
	rung     remedy
	looking  bool
	due      time.Time
	repaired bool // this process is itself a remedy that has not helped yet

	looks   [2]atomic.Int64 // failed, answered
	repairs [2]atomic.Int64 // by listening again, by a new process
}

// watch looks at the public path when it is time to.
func (n *node) watch(s *session) {
	w := &n.dog
	if n.cfg.Probe.Interval == 0 || !n.seen.Listening || w.looking || time.Now().Before(w.due) {
		return
	}
	timeout := n.pace.later
	if !w.answered {
		timeout = n.pace.first
	}
	ctx, cancel := context.WithCancel(s.ctx)
	w.looking = true
	early := !s.greeted
	if early {
		s.stopEarlyLook = cancel
	}
	go func() {
		defer cancel()
		l := n.prober.look(ctx, timeout)
		switch {
		case l.err == nil:
		case early: // it may have gone to our predecessor's session
			n.post(s, func() {
				wait := lookEarly
				if s.greeted {
					wait = 0
				}
				n.lookLater(s, wait)
			})
			return
		case n.edge.turnedAway(l.at):
			// We are flooded, so that the path is good: who knows whom it was that we shut out.
			n.post(s, func() { n.lookLater(s, n.pace.look) })
			return
		}
		online := l.err == nil || n.online(s)
		n.post(s, func() { n.looked(s, l, online) })
	}()
}

// lookLater plans the next look, a fifth sooner to a fifth later.
func (n *node) lookLater(s *session, wait time.Duration) {
	n.dog.looking = false
	n.dog.due = time.Now().Add(wait - wait/5 + rand.N(wait*2/5+1))
	time.AfterFunc(time.Until(n.dog.due), func() { n.post(s, func() {}) })
}

// online asks the backend whether control holds our map poll, now.
func (n *node) online(s *session) bool {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	st, err := s.lc.StatusWithoutPeers(ctx)
	return err == nil && st.Self != nil && st.Self.Online
}

// looked takes in the result of a look and tries the next remedy.
func (n *node) looked(s *session, l look, online bool) {
	w := &n.dog
	w.looking = false
	if !n.seen.Listening {
		return // the listener was closed meanwhile
	}
	n.note(l, online)
	wait := n.cfg.Probe.Interval
	if l.err != nil {
		wait = min(wait, n.pace.look)
	}
	n.lookLater(s, wait)
	switch nextRemedy(w.rung, w.curable, w.repaired) {
	case remedyListenAgain:
		w.rung, w.curable = remedyListenAgain, 0
		w.repairs[0].Add(1)
		n.listenAgain(s, "the public address does not answer")
	case remedyReplaceChild:
		w.rung = remedyReplaceChild
		w.repairs[1].Add(1)
		n.replace = true
	}
}

// down reports whether the path counts as down.
func (w *watchdog) down() bool { return w.failures >= looksToDown }

// note counts the look and says what is news. While control is away nothing is
// curable: the Funnel goes on without it, and a new process could not start.
func (n *node) note(l look, online bool) {
	w := &n.dog
	news := w.last.at.IsZero() || (l.err == nil) != (w.last.err == nil) || l.fault != w.last.fault
	w.last = l
	if l.err != nil {
		w.looks[0].Add(1)
		w.failures++
		if w.curable++; !online || !l.fault.curable() {
			w.curable = 0
		}
		if news {
			n.log.Warn("probe.failed", "at", string(l.fault), "error", l.err.Error(), "addresses", l.addresses)
		}
		return
	}
	w.looks[1].Add(1)
	if news {
		n.log.Info("probe.answered", "took", l.took, "addresses", l.addresses)
	}
	w.answered, w.failures, w.curable, w.rung, w.repaired = true, 0, 0, remedyNone, false
}

// probeNow is a look that somebody asked for.
func (n *node) probeNow(ctx context.Context) probeStatus {
	l := n.prober.look(ctx, lookTimeout)
	noted := make(chan struct{})
	select {
	case n.events <- func() {
		defer close(noted)
		if n.session != nil && n.seen.Listening {
			n.note(l, n.session.offlineSince.IsZero())
		}
	}:
	case <-n.done:
		close(noted)
	}
	select {
	case <-noted:
	case <-n.done:
	}
	return l.document()
}
