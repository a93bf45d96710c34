package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
)

// login is one page that a person opens to let a node in.
type login struct {
	done chan struct{}
}

// newLogin makes the page where a person lets the node in.
func (c *control) newLogin() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	url := c.url + "/auth/" + strings.ToLower(rand.Text())
	c.logins[url] = &login{done: make(chan struct{})}
	return url
}

// awaitLogin waits for the person, and reports whether they came while the node waited.
func (c *control) awaitLogin(ctx context.Context, url string) bool {
	c.mu.Lock()
	l := c.logins[url]
	c.mu.Unlock()
	if l == nil {
		<-ctx.Done() // a page from before a reset: nobody will come
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-l.done:
		return true
	}
}

// completeLogin is the person.
func (c *control) completeLogin(url string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.logins[url]
	if l == nil {
		return fmt.Errorf("no node waits at %q", url)
	}
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}
