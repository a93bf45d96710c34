package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// messages gives a stream to a gate in pieces and returns what may be read of
// each message, and the rejection that ends them.
func messages(stream []byte, piece int) (read []string, bad *rejection) {
	g := gate{maxHeader: 4096}
	now := []byte(nil)
	for len(stream) > 0 {
		part := stream[:min(piece, len(stream))]
		n, bad := g.pass(part)
		now = append(now, part[:n]...)
		if bad != nil {
			return read, bad
		}
		stream = stream[n:]
		if !g.begun() && g.bodyLeft == 0 {
			read, now = append(read, string(now)), nil
		}
	}
	if len(now) > 0 {
		read = append(read, string(now))
	}
	return read, nil
}

// Each message ends where it says, however it was cut up on its way.
func TestGateEndsEachMessage(t *testing.T) {
	want := []string{
		"POST /webhooks/github?x=%20y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab\r\nc",
		"GET / HTTP/1.1\r\nhost:h\r\nX-Empty:\r\nX-Tab: a\tb \r\nX-Umlaut: \xc3\xa4\r\n\r\n",
		"M~!#$%&'*+-.^_`|9 * HTTP/1.1\r\nHost: h\r\ncontent-length: \t 00012 \r\n\r\n\r\n\r\nGET / HT",
	}
	stream := []byte(strings.Join(want, ""))
	for piece := 1; piece <= len(stream); piece++ {
		read, bad := messages(stream, piece)
		if bad != nil || fmt.Sprintf("%q", want) != fmt.Sprintf("%q", read) {
			t.Fatalf("in pieces of %d: %v %q", piece, bad, read)
		}
	}
}

var manyHeaders = strings.Repeat("X: y\r\n", 10_000)

// illFormed are messages that are refused, with the status that they get.
var illFormed = []struct {
	name, text string
	code       int
}{
	{"HTTP/0.9", "GET /webhooks/github\r\n", 400},
	{"HTTP/1.0", "POST /webhooks/github HTTP/1.0\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 505},
	{"HTTP/1.2", "POST /webhooks/github HTTP/1.2\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 505},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
	{"no version", "POST /webhooks/github \r\nHost: h\r\n\r\n", 400},
	{"version in small letters", "POST /webhooks/github http/1.1\r\nHost: h\r\n\r\n", 400},
	{"a space after the version", "POST /webhooks/github HTTP/1.1 \r\nHost: h\r\n\r\n", 400},
	{"two spaces", "POST  /webhooks/github HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"a tab for a space", "POST\t/webhooks/github HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"a method that is none", "PO(ST /webhooks/github HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"no method", " /webhooks/github HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"an empty line before", "\r\nPOST /webhooks/github HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"a fragment", "POST /webhooks/github#x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"a control byte in the target", "POST /webhooks/github\x00 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"UTF-8 in the target", "POST /webhooks/github?\xc3\xa4 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
	{"a large target", "POST /" + strings.Repeat("x", 5000) + " HTTP/1.1\r\nHost: h\r\n\r\n", 431},
	{"LF alone", "POST /webhooks/github HTTP/1.1\nHost: h\nContent-Length: 0\n\n", 400},
	{"LF alone in a header", "POST /webhooks/github HTTP/1.1\r\nHost: h\nX: y\r\nContent-Length: 0\r\n\r\n", 400},
	{"LF alone at the end", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\n", 400},
	{"nothing but LF", "\n", 400},
	{"CR alone", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 0\r\n\r\n", 400},
	{"two CR", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\r\n\r\n", 400},
	{"a folded header", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", 400},
	{"folded with a tab", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nX: a\r\n\tContent-Length: 5\r\n\r\n", 400},
	{"a space before the first header", "POST /webhooks/github HTTP/1.1\r\n Host: h\r\n\r\n", 400},
	{"a space in a header's name", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent Length: 0\r\n\r\n", 400},
	{"a space before the colon", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length : 0\r\n\r\n", 400},
	{"no colon", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", 400},
	{"a header without a name", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n", 400},
	{"NUL in a value", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n", 400},
	{"DEL in a value", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nX: a\x7fb\r\n\r\n", 400},
	{"NUL in a name", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nX\x00: a\r\n\r\n", 400},
	{"UTF-8 in a name", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\n\xc3\xa4: a\r\n\r\n", 400},
	{"no Host", "POST /webhooks/github HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400},
	{"two Hosts", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 400},
	{"chunked", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411},
	{"chunked, with a trailer", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\nX: y\r\n\r\n", 411},
	{"identity", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n\r\n", 411},
	{"CL.TE", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"TE.CL", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
	{"TE.TE", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n0\r\n\r\n", 411},
	{"TE hidden by a vertical tab", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400},
	{"two lengths", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", 400},
	{"the same length twice", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400},
	{"a list of lengths", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 0\r\n\r\n", 400},
	{"a length with a sign", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", 400},
	{"a hexadecimal length", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length: 0x1\r\n\r\n", 400},
	{"an empty length", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n", 400},
	{"a huge length", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551616\r\n\r\n", 400},
	{"many small headers", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\n" + manyHeaders + "\r\n", 431},
	{"one large header", "POST /webhooks/github HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n", 431},
}

// What is not well-formed is refused, however it was cut up on its way, and
// nothing but its first byte is read of what came in one piece.
func TestGateRefusesWhatIsNotWellFormed(t *testing.T) {
	for _, c := range illFormed {
		for _, piece := range []int{1, 7, len(c.text)} {
			_, bad := messages([]byte(c.text), piece)
			if bad == nil || bad.code != c.code {
				t.Errorf("%s, in pieces of %d: want %d, got %v", c.name, piece, c.code, bad)
			}
		}
		if n, _ := (&gate{maxHeader: 4096}).pass([]byte(c.text)); n != 1 {
			t.Errorf("%s: %d bytes were passed", c.name, n)
		}
	}
}

// The bounds of a header are what they say.
func TestGateCountsHeadersAndBytes(t *testing.T) {
	head := func(headers, size int) []byte {
		text := "GET / HTTP/1.1\r\nHost: h\r\n" + strings.Repeat("X:\r\n", headers-2)
		return []byte(text + "Y:" + strings.Repeat("y", size-len(text)-6) + "\r\n\r\n")
	}
	for _, c := range []struct{ headers, size, code int }{
		{maxHeaderLines, 4096, 0}, {maxHeaderLines + 1, 4096, 431}, {maxHeaderLines, 4097, 431},
	} {
		text := head(c.headers, c.size)
		n, bad := (&gate{maxHeader: 4096}).pass(text)
		if (bad == nil) != (c.code == 0) || bad != nil && bad.code != c.code || bad == nil && n != len(text) {
			t.Errorf("%d headers in %d bytes: passed %d, %v", c.headers, len(text), n, bad)
		}
	}
}

// An answer of the gate is empty and ends the connection.
func TestRefusalIsOneWholeAnswer(t *testing.T) {
	want := "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	if got := (&rejection{code: 431}).answer(); !bytes.Equal([]byte(want), got) {
		t.Errorf("%q", got)
	}
}

// BenchmarkGate is the cost of a delivery's head.
func BenchmarkGate(b *testing.B) {
	head := []byte(githubHead(0))
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	g := gate{maxHeader: 65536}
	for b.Loop() {
		if _, bad := g.pass(head); bad != nil {
			b.Fatal(bad)
		}
	}
}

// githubHead is the head of a delivery as GitHub sends it.
func githubHead(length int) string {
	return "POST /webhooks/github HTTP/1.1\r\nHost: " + ownName + "\r\nUser-Agent: GitHub-Hookshot/a1b2c3d\r\n" +
		"Content-Length: " + fmt.Sprint(length) + "\r\nAccept: */*\r\nContent-Type: application/json\r\n" +
		"X-GitHub-Delivery: 3b8d5f0e-8a4b-11ee-9a3e-2f6d1c5b7a90\r\nX-GitHub-Event: repository\r\nX-GitHub-Hook-ID: 1\r\n" +
		"X-GitHub-Hook-Installation-Target-ID: 1\r\nX-GitHub-Hook-Installation-Target-Type: integration\r\n" +
		"X-Hub-Signature: sha1=" + strings.Repeat("0", 40) + "\r\nX-Hub-Signature-256: sha256=" + strings.Repeat("0", 64) + "\r\n\r\n"
}
