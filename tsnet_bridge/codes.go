package main

// Codes of docs/bridge-protocol.md: stable, part of the public interface.
const (
	codeNeedsLogin           = "NEEDS_LOGIN"
	codeAuthKeyRejected      = "AUTH_KEY_REJECTED"
	codeLoginFailed          = "LOGIN_FAILED"
	codeNeedsApproval        = "NEEDS_APPROVAL"
	codeNodeExpired          = "NODE_EXPIRED"
	codeNodeDeleted          = "NODE_DELETED"
	codeHTTPSDisabled        = "HTTPS_DISABLED"
	codeFunnelAttrMissing    = "FUNNEL_ATTR_MISSING"
	codePortNotAllowed       = "PORT_NOT_ALLOWED"
	codeFunnelFailed         = "FUNNEL_FAILED"
	codeCertRateLimited      = "CERT_RATE_LIMITED"
	codeCertFailed           = "CERT_FAILED"
	codeNameConflict         = "NAME_CONFLICT"
	codeLoggingRequired      = "LOGGING_REQUIRED"
	codeControlUnreachable   = "CONTROL_UNREACHABLE"
	codeControlWithoutFunnel = "CONTROL_WITHOUT_FUNNEL"
	codeStateDirUnwritable   = "STATE_DIR_UNWRITABLE"
	codeStateLocked          = "STATE_LOCKED"
	codePublicPathDown       = "PUBLIC_PATH_DOWN"
	codeConfigInvalid        = "BRIDGE_CONFIG_INVALID"
	codeProtocolMismatch     = "PROTOCOL_MISMATCH"
	codeSocketPathTooLong    = "SOCKET_PATH_TOO_LONG"
	codeSocketInUse          = "SOCKET_IN_USE"
	codeNodeStartFailed      = "NODE_START_FAILED"
)

// fault is an error meant for a person: a stable code, what is wrong, what to do.
type fault struct{ Code, Message, Hint string }

// Error is the code and what is wrong.
func (f *fault) Error() string { return f.Code + ": " + f.Message }
