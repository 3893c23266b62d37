"""Message type codes (PostgreSQL manual, "Message Formats")."""

from typing import Final

# Frontend
QUERY: Final = 0x51
PARSE: Final = 0x50
BIND: Final = 0x42
DESCRIBE: Final = 0x44
EXECUTE: Final = 0x45
CLOSE: Final = 0x43
FLUSH: Final = 0x48
SYNC: Final = 0x53
FUNCTION_CALL: Final = 0x46
TERMINATE: Final = 0x58
COPY_DATA: Final = 0x64
COPY_DONE: Final = 0x63
COPY_FAIL: Final = 0x66
PASSWORD: Final = 0x70

# Backend
READY_FOR_QUERY: Final = 0x5A
ERROR_RESPONSE: Final = 0x45
PARSE_COMPLETE: Final = 0x31
CLOSE_COMPLETE: Final = 0x33
COMMAND_COMPLETE: Final = 0x43
COPY_IN_RESPONSE: Final = 0x47
EMPTY_QUERY_RESPONSE: Final = 0x49
PARAMETER_STATUS: Final = 0x53
PORTAL_SUSPENDED: Final = 0x73
AUTHENTICATION: Final = 0x52
BACKEND_KEY_DATA: Final = 0x4B
NOTICE_RESPONSE: Final = 0x4E
NEGOTIATE_PROTOCOL_VERSION: Final = 0x76
