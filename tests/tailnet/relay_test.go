package main

import (
	"net"
	"strings"
	"syscall"
	"testing"
)

// scripted is a listener whose connections fail in this order.
type scripted struct {
	net.Listener
	errs []error
}

func (s *scripted) Accept() (net.Conn, error) {
	err := s.errs[0]
	s.errs = s.errs[1:]
	return nil, err
}

func TestRelayLivesThroughAFullTableOfFiles(t *testing.T) {
	r := &relay{journal: newJournal(), ctx: t.Context()}
	r.accept(&scripted{errs: []error{syscall.EMFILE, syscall.EMFILE, net.ErrClosed}})
	log := r.journal.read()[relayLog]
	if len(log) != 2 || !strings.Contains(log[0], "too many open files") {
		t.Errorf("the log is %q", log)
	}
}
