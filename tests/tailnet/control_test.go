package main

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

// get asks control for its key.
func get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/key?v=1", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		err = res.Body.Close()
	}
	return res, err
}

func TestControlHangsForAllButOurOwnNodes(t *testing.T) {
	tn := start(t)
	node := newNode(t, tn, "hooks")
	if _, err := node.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	setFaults(t, tn, "control_hang=1")
	if _, err := get(t.Context(), tn.control.ownURL); err != nil {
		t.Errorf("our own nodes hang: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := get(ctx, tn.control.url); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := get(t.Context(), tn.control.url)
		answered <- err
	}()
	if err := tn.control.rename("hooks", "renamed"); err != nil {
		t.Fatal(err)
	}
	setFaults(t, tn, "control_hang=")
	if err := <-answered; err != nil {
		t.Errorf("what waited has no answer: %v", err)
	}
	until(t, node, named("renamed.tail-box.ts.net"))
}

func TestControlTellsTheTimeOfItsOwnClock(t *testing.T) {
	tn := start(t)
	setFaults(t, tn, "clock_skew=7200")
	for url, want := range map[string]time.Duration{tn.control.url: 2 * time.Hour, tn.control.ownURL: 0} {
		res, err := get(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		at, err := http.ParseTime(res.Header.Get("Date"))
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Until(at).Round(time.Minute); got != want {
			t.Errorf("%s is ahead by %v, want %v", url, got, want)
		}
	}
}

func TestRenamedNodeIsToldOfTheNameItWanted(t *testing.T) {
	tn := start(t)
	setFaults(t, tn, "taken=hooks")
	node := newNode(t, tn, "hooks")
	until(t, node, named("hooks-1.tail-box.ts.net"))
	setFaults(t, tn, "taken=")
	if err := tn.control.rename("hooks-1", "hooks"); err != nil {
		t.Fatal(err)
	}
	until(t, node, named("hooks.tail-box.ts.net"))
}
