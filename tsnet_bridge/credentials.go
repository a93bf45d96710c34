//lint:file-ignore SA1019 the newer client is another module; tsnet itself still uses this one

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"tailscale.com/client/tailscale"
)

const (
	// tailscaleAPI is where auth keys are made.
	tailscaleAPI = "https://api.tailscale.com"
	mintTimeout  = 20 * time.Second
	// tokenFile marks an id_token that names a file: a provider may change what
	// is in it at any time.
	tokenFile = "file:"
)

// credential makes the auth key of a login: a key as it was given, or a new one
// by an OAuth client secret or a workload identity. tsnet can do that too, but
// only when it starts, so that an enrolled node would need the API at each start;
// and its defaults are an ephemeral node that waits for an approval.
type credential struct {
	key      secret
	identity identity
	tags     []string
	api      string
}

func newCredential(cfg config) credential {
	c := credential{key: cfg.AuthKey, identity: cfg.Identity, tags: cfg.Tags, api: tailscaleAPI}
	if cfg.Loopback != "" {
		c.api = cfg.ControlURL
	}
	return c
}

// given reports whether there is anything to log in with.
func (c credential) given() bool { return c.key != "" || c.identity.ClientID != "" }

// refusal is a no that no waiting mends.
type refusal struct{ error }

// Unwrap returns what was said.
func (r refusal) Unwrap() error { return r.error }

func isRefusal(err error) bool {
	_, is := errors.AsType[refusal](err)
	return is
}

// mint returns an auth key. A refusal is final; any other error may pass.
func (c credential) mint(ctx context.Context) (secret, error) {
	if c.identity.ClientID == "" && !isOAuth(c.key) {
		return c.key, nil
	}
	ctx, cancel := context.WithTimeout(ctx, mintTimeout)
	defer cancel()
	ctx = context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Timeout: mintTimeout})
	text := string(c.key)
	if c.identity.ClientID != "" {
		text = c.identity.ClientID
	}
	base, want, err := keyAttributes(text)
	if err != nil {
		return "", refusal{err}
	}
	if want.api == "" {
		want.api = c.api
	}
	token, err := c.token(ctx, base, want.api)
	if err != nil {
		return "", judged(err)
	}
	return c.create(ctx, token, want)
}

// token turns the secret, or the workload's own token, into one for the API.
func (c credential) token(ctx context.Context, base, api string) (*oauth2.Token, error) {
	if c.identity.ClientID == "" {
		client := clientcredentials.Config{ClientID: "repo-guardian", ClientSecret: base, TokenURL: api + "/api/v2/oauth/token"}
		return client.Token(ctx)
	}
	jwt, err := c.workloadToken(ctx)
	if err != nil {
		return nil, err
	}
	exchange := oauth2.Config{Endpoint: oauth2.Endpoint{TokenURL: api + "/api/v2/oauth/token-exchange"}}
	return exchange.Exchange(ctx, "", oauth2.SetAuthURLParam("client_id", base), oauth2.SetAuthURLParam("jwt", jwt))
}

func (c credential) workloadToken(ctx context.Context) (string, error) {
	if c.identity.Audience != "" {
		return providerToken(ctx, c.identity.Audience)
	}
	path, isFile := strings.CutPrefix(string(c.identity.IDToken), tokenFile)
	if !isFile {
		return string(c.identity.IDToken), nil
	}
	raw, err := os.ReadFile(path)
	return strings.TrimSpace(string(raw)), err
}

func (c credential) create(ctx context.Context, token *oauth2.Token, want attributes) (secret, error) {
	tailscale.I_Acknowledge_This_API_Is_Unstable = true
	client := tailscale.NewClient("-", tailscale.APIKey(token.AccessToken))
	client.BaseURL, client.UserAgent = want.api, "repo-guardian"
	key, _, err := client.CreateKey(ctx, tailscale.KeyCapabilities{Devices: tailscale.KeyDeviceCapabilities{
		Create: tailscale.KeyDeviceCreateCapabilities{
			Ephemeral: want.ephemeral, Preauthorized: want.preauthorized, Tags: c.tags,
		},
	}})
	if err != nil {
		return "", judged(err)
	}
	return secret(key), nil
}

// judged tells an API that says no from one that is away, busy or broken.
func judged(err error) error {
	status := 0
	if answered, ok := errors.AsType[*oauth2.RetrieveError](err); ok && answered.Response != nil {
		status = answered.Response.StatusCode
	}
	if answered, ok := errors.AsType[tailscale.ErrResponse](err); ok {
		status = answered.Status
	}
	if status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests {
		return refusal{err}
	}
	return err
}

// isOAuth reports whether the key is an OAuth client secret.
func isOAuth(key secret) bool { return strings.HasPrefix(string(key), "tskey-client-") }

// attributes are what a secret or a client id may say of the keys made with it,
// in tsnet's own form: NAME?ephemeral=false&preauthorized=true&baseURL=….
type attributes struct {
	ephemeral     bool
	preauthorized bool
	api           string
}

// keyAttributes parts a secret or a client id from its attributes. The error
// never shows the secret.
func keyAttributes(text string) (base string, a attributes, err error) {
	base, query, _ := strings.Cut(text, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return base, a, errors.New("the attributes after ? cannot be read")
	}
	a = attributes{preauthorized: true}
	for name, given := range values {
		switch name {
		case "ephemeral":
			a.ephemeral, err = strconv.ParseBool(given[0])
		case "preauthorized":
			a.preauthorized, err = strconv.ParseBool(given[0])
		case "baseURL":
			a.api = strings.TrimSuffix(given[0], "/")
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return base, a, fmt.Errorf("attribute %q: expected ephemeral=, preauthorized= (true or false) or baseURL=", name)
		}
	}
	return base, a, nil
}
