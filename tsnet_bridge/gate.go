package main

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
)

// maxHeaderLines bounds the work of a header, which its size does not: a name
// costs some 200 bytes of ours for two of its sender. GitHub sends 15 lines.
const maxHeaderLines = 100

// maxLengthDigits keeps Content-Length within an int64.
const maxLengthDigits = 18

// shortLine is how much room for a line is kept from message to message.
const shortLine = 256

// rejection is the answer to a message that is not well-formed.
type rejection struct {
	code int
	why  string
}

func malformed(why string) *rejection { return &rejection{http.StatusBadRequest, why} }

// gate follows the messages of one connection and says where each ends. It
// takes one form only, where net/http takes several and mends them: what two
// parsers may read in two ways ends here (RFC 9112, sections 2.2, 5.2, 6.3).
//
//	POST /path HTTP/1.1 CRLF          a method, a target, this version
//	Name: value CRLF                  no folding, no space before the colon
//	Host: name CRLF                   exactly one
//	Content-Length: digits CRLF       at most one; no Transfer-Encoding at all
//	CRLF
//	as many bytes
type gate struct {
	maxHeader int
	heads     int // that have ended
	bodyLeft  int64

	// Of the present head.
	size     int // bytes so far
	lines    int // that have ended
	partial  []byte
	hosts    int
	lengths  int
	codings  int
	announce int64 // Content-Length
}

// begun reports whether a part of a head has come, but not its end.
func (g *gate) begun() bool { return g.size > 0 }

// pass takes the bytes in their order and returns how many of them may be read
// on: up to the end of the present message, so that nothing of the next one is
// judged, or counted, before its time. Of a message that is refused the first
// byte still passes, because net/http may be reading it ahead while the answer
// before is on its way; an error would cut that off.
func (g *gate) pass(p []byte) (int, *rejection) {
	if g.bodyLeft > 0 {
		n := int(min(g.bodyLeft, int64(len(p))))
		g.bodyLeft -= int64(n)
		return n, nil
	}
	fresh := !g.begun()
	n, bad := g.head(p)
	switch {
	case bad == nil:
		return n, nil
	case fresh:
		return 1, bad
	}
	return 0, bad
}

// head takes lines until the empty one, and what is there of the body.
func (g *gate) head(p []byte) (int, *rejection) {
	for at := 0; at < len(p); {
		end := bytes.IndexByte(p[at:], '\n')
		part := p[at:]
		if end >= 0 {
			part = p[at : at+end+1]
		}
		at += len(part)
		if g.size += len(part); g.size > g.maxHeader {
			return 0, &rejection{http.StatusRequestHeaderFieldsTooLarge, "large header"}
		}
		if end < 0 {
			g.partial = append(g.partial, part...)
			break
		}
		if len(g.partial) > 0 {
			part = append(g.partial, part...)
			g.partial = part[:0]
		}
		over, bad := g.line(part)
		if bad != nil {
			return 0, bad
		}
		if over {
			body := min(g.bodyLeft, int64(len(p)-at))
			g.bodyLeft -= body
			return at + int(body), nil
		}
	}
	return len(p), nil
}

// line takes one line with its end and reports whether it ends the head.
func (g *gate) line(line []byte) (over bool, bad *rejection) {
	text, whole := bytes.CutSuffix(line, []byte("\r\n"))
	switch {
	case !whole:
		return false, malformed("line without CR")
	case g.lines == 0:
		bad = requestLine(text)
	case len(text) == 0:
		return true, g.finish()
	case g.lines > maxHeaderLines:
		bad = &rejection{http.StatusRequestHeaderFieldsTooLarge, "many headers"}
	default:
		bad = g.field(text)
	}
	g.lines++
	return false, bad
}

// finish ends a head; the body is next.
func (g *gate) finish() *rejection {
	switch {
	case g.hosts != 1:
		return malformed("not one Host")
	case g.codings > 0 && g.lengths > 0:
		return malformed("Transfer-Encoding beside Content-Length")
	case g.codings > 0:
		return &rejection{http.StatusLengthRequired, "Transfer-Encoding"}
	}
	next := gate{maxHeader: g.maxHeader, heads: g.heads + 1, bodyLeft: g.announce}
	if cap(g.partial) <= shortLine {
		next.partial = g.partial
	}
	*g = next
	return nil
}

func (g *gate) field(line []byte) *rejection {
	name, value, found := bytes.Cut(line, []byte(":"))
	if !found || !isToken(name) {
		return malformed("header name") // folding too: it begins with a space
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return malformed("control byte in a header")
		}
	}
	switch {
	case equalFold(name, "host"):
		g.hosts++
	case equalFold(name, "transfer-encoding"):
		g.codings++
	case equalFold(name, "content-length"):
		g.lengths++
		return g.length(bytes.Trim(value, " \t"))
	}
	return nil
}

func (g *gate) length(value []byte) *rejection {
	if g.lengths > 1 || len(value) == 0 || len(value) > maxLengthDigits {
		return malformed("Content-Length")
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return malformed("Content-Length")
		}
		g.announce = g.announce*10 + int64(c-'0')
	}
	return nil
}

// requestLine takes a method, a target without a fragment, and HTTP/1.1. The
// older versions have other rules for bodies, the newer ones other forms.
func requestLine(line []byte) *rejection {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, found := bytes.Cut(rest, []byte(" "))
	if !found || !isToken(method) || len(target) == 0 {
		return malformed("request line")
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f || c == '#' {
			return malformed("target")
		}
	}
	if string(version) == "HTTP/1.1" {
		return nil
	}
	if _, _, ok := http.ParseHTTPVersion(string(version)); ok {
		return &rejection{http.StatusHTTPVersionNotSupported, "version"}
	}
	return malformed("request line")
}

// isToken is the rule for methods and header names (RFC 9110, section 5.6.2).
func isToken(word []byte) bool {
	for _, c := range word {
		if !tokenByte(c) {
			return false
		}
	}
	return len(word) > 0
}

func tokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func equalFold(name []byte, lower string) bool {
	return len(name) == len(lower) && strings.EqualFold(string(name), lower)
}

// answer is the whole answer; it says nothing about who refuses.
func (r *rejection) answer() []byte {
	return []byte("HTTP/1.1 " + strconv.Itoa(r.code) + " " + http.StatusText(r.code) +
		"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}
