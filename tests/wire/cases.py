"""Every message type of protocol 3.0 and 3.2 with its bytes, written by hand from the manual's "Message Formats"."""

from middleware.wire import backend, frontend
from middleware.wire.backend import Column
from middleware.wire.fields import Message
from middleware.wire.frontend import PORTAL, STATEMENT, StartupPacket

FRONTEND: list[tuple[Message, bytes]] = [
    (frontend.Query(b"select 1"), b"Q\0\0\0\x0dselect 1\0"),
    (frontend.Query(b""), b"Q\0\0\0\x05\0"),
    (frontend.Parse(b"s1", b"select $1", (23,)), b"P\0\0\0\x17s1\0select $1\0\0\x01\0\0\0\x17"),
    (frontend.Parse(b"", b""), b"P\0\0\0\x08\0\0\0\0"),
    (frontend.Parse(b"", b"x", (0xFFFFFFFF, 0)), b"P\0\0\0\x11\0x\0\0\x02\xff\xff\xff\xff\0\0\0\0"),
    (frontend.Bind(), b"B\0\0\0\x0c\0\0\0\0\0\0\0\0"),
    (
        frontend.Bind(b"p", b"s", (0, 1), (b"ab", None), (1,)),
        b"B\0\0\0\x1ep\0s\0\0\x02\0\0\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\x01",
    ),
    (frontend.Bind(parameters=(b"",)), b"B\0\0\0\x10\0\0\0\0\0\x01\0\0\0\0\0\0"),
    (frontend.Describe(STATEMENT, b"s1"), b"D\0\0\0\x08Ss1\0"),
    (frontend.Describe(PORTAL), b"D\0\0\0\x06P\0"),
    (frontend.Close(STATEMENT), b"C\0\0\0\x06S\0"),
    (frontend.Close(PORTAL, b"p"), b"C\0\0\0\x07Pp\0"),
    (frontend.Execute(), b"E\0\0\0\x09\0\0\0\0\0"),
    (frontend.Execute(b"p", 100), b"E\0\0\0\x0ap\0\0\0\0\x64"),
    (frontend.Flush(), b"H\0\0\0\x04"),
    (frontend.Sync(), b"S\0\0\0\x04"),
    (frontend.Terminate(), b"X\0\0\0\x04"),
    (frontend.FunctionCall(1598), b"F\0\0\0\x0e\0\0\x06\x3e\0\0\0\0\0\0"),
    (
        frontend.FunctionCall(177, (1,), (b"\0\0\0\x02", None), 1),
        b"F\0\0\0\x1c\0\0\0\xb1\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x02\xff\xff\xff\xff\0\x01",
    ),
    (frontend.CopyData(b"1\tone\n"), b"d\0\0\0\x0a1\tone\n"),
    (frontend.CopyData(b""), b"d\0\0\0\x04"),
    (frontend.CopyDone(), b"c\0\0\0\x04"),
    (frontend.CopyFail(b"no more"), b"f\0\0\0\x0cno more\0"),
    (frontend.PasswordMessage(b"secret"), b"p\0\0\0\x0bsecret\0"),
    (
        frontend.SASLInitialResponse(b"SCRAM-SHA-256", b"n,,n=,r=x"),
        b"p\0\0\0\x1fSCRAM-SHA-256\0\0\0\0\x09n,,n=,r=x",
    ),
    (frontend.SASLInitialResponse(b"X"), b"p\0\0\0\x0aX\0\xff\xff\xff\xff"),
    (frontend.SASLResponse(b"c=biws"), b"p\0\0\0\x0ac=biws"),
    (frontend.GSSResponse(b"\0\x01token"), b"p\0\0\0\x0b\0\x01token"),
]

STARTUP: list[tuple[StartupPacket, bytes]] = [
    (frontend.SSLRequest(), b"\0\0\0\x08\x04\xd2\x16\x2f"),
    (frontend.GSSENCRequest(), b"\0\0\0\x08\x04\xd2\x16\x30"),
    (frontend.CancelRequest(1234, b"\x01\x02\x03\x04"), b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\x04\xd2\x01\x02\x03\x04"),
    (frontend.CancelRequest(1, b"k" * 32), b"\0\0\0\x2c\x04\xd2\x16\x2e\0\0\0\x01" + b"k" * 32),
    (frontend.StartupMessage(((b"user", b"ann"),)), b"\0\0\0\x12\0\x03\0\0user\0ann\0\0"),
    (
        frontend.StartupMessage(((b"user", b"ann"), (b"database", b"")), 196_610),
        b"\0\0\0\x1c\0\x03\0\x02user\0ann\0database\0\0\0",
    ),
    (frontend.StartupMessage((), 0x0002_0000), b"\0\0\0\x09\0\x02\0\0\0"),
]

BACKEND: list[tuple[Message, bytes]] = [
    (backend.AuthenticationOk(), b"R\0\0\0\x08\0\0\0\0"),
    (backend.AuthenticationKerberosV5(), b"R\0\0\0\x08\0\0\0\x02"),
    (backend.AuthenticationCleartextPassword(), b"R\0\0\0\x08\0\0\0\x03"),
    (backend.AuthenticationMD5Password(b"salt"), b"R\0\0\0\x0c\0\0\0\x05salt"),
    (backend.AuthenticationGSS(), b"R\0\0\0\x08\0\0\0\x07"),
    (backend.AuthenticationGSSContinue(b"\0token"), b"R\0\0\0\x0e\0\0\0\x08\0token"),
    (backend.AuthenticationSSPI(), b"R\0\0\0\x08\0\0\0\x09"),
    (
        backend.AuthenticationSASL((b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256")),
        b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
    ),
    (backend.AuthenticationSASLContinue(b"r=x,s=y,i=1"), b"R\0\0\0\x13\0\0\0\x0br=x,s=y,i=1"),
    (backend.AuthenticationSASLFinal(b"v=z"), b"R\0\0\0\x0b\0\0\0\x0cv=z"),
    (backend.BackendKeyData(1234, b"\xff\0\0\x01"), b"K\0\0\0\x0c\0\0\x04\xd2\xff\0\0\x01"),
    (backend.BackendKeyData(2**32 - 1, b"k" * 32), b"K\0\0\0\x28\xff\xff\xff\xff" + b"k" * 32),
    (backend.NegotiateProtocolVersion(196_610), b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0"),
    (
        backend.NegotiateProtocolVersion(196_608, (b"_pq_.a", b"_pq_.b")),
        b"v\0\0\0\x1a\0\x03\0\0\0\0\0\x02_pq_.a\0_pq_.b\0",
    ),
    (backend.ParameterStatus(b"TimeZone", b"Etc/UTC"), b"S\0\0\0\x15TimeZone\0Etc/UTC\0"),
    (backend.ReadyForQuery(b"I"), b"Z\0\0\0\x05I"),
    (backend.ReadyForQuery(b"T"), b"Z\0\0\0\x05T"),
    (backend.ReadyForQuery(b"E"), b"Z\0\0\0\x05E"),
    (backend.ParseComplete(), b"1\0\0\0\x04"),
    (backend.BindComplete(), b"2\0\0\0\x04"),
    (backend.CloseComplete(), b"3\0\0\0\x04"),
    (backend.NoData(), b"n\0\0\0\x04"),
    (backend.EmptyQueryResponse(), b"I\0\0\0\x04"),
    (backend.PortalSuspended(), b"s\0\0\0\x04"),
    (backend.CommandComplete(b"INSERT 0 1"), b"C\0\0\0\x0fINSERT 0 1\0"),
    (backend.ParameterDescription(), b"t\0\0\0\x06\0\0"),
    (backend.ParameterDescription((23, 25)), b"t\0\0\0\x0e\0\x02\0\0\0\x17\0\0\0\x19"),
    (backend.RowDescription(), b"T\0\0\0\x06\0\0"),
    (
        backend.RowDescription((Column(b"n", type_oid=23, type_size=4, format=1, table_oid=16384, number=2),)),
        b"T\0\0\0\x1a\0\x01n\0\0\0\x40\0\0\x02\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01",
    ),
    (backend.DataRow(), b"D\0\0\0\x06\0\0"),
    (backend.DataRow((b"1", None, b"")), b"D\0\0\0\x13\0\x03\0\0\0\x011\xff\xff\xff\xff\0\0\0\0"),
    (backend.FunctionCallResponse(None), b"V\0\0\0\x08\xff\xff\xff\xff"),
    (backend.FunctionCallResponse(b"\x07"), b"V\0\0\0\x09\0\0\0\x01\x07"),
    (backend.NotificationResponse(7, b"jobs", b"go"), b"A\0\0\0\x10\0\0\0\x07jobs\0go\0"),
    (
        backend.ErrorResponse(((b"S", b"ERROR"), (b"C", b"42601"), (b"M", b"no"))),
        b"E\0\0\0\x17SERROR\0C42601\0Mno\0\0",
    ),
    (backend.NoticeResponse(((b"M", b"hm"),)), b"N\0\0\0\x09Mhm\0\0"),
    (backend.NoticeResponse(()), b"N\0\0\0\x05\0"),
    (backend.CopyInResponse(0, (0, 0)), b"G\0\0\0\x0b\0\0\x02\0\0\0\0"),
    (backend.CopyOutResponse(1, (1,)), b"H\0\0\0\x09\x01\0\x01\0\x01"),
    (backend.CopyBothResponse(0), b"W\0\0\0\x07\0\0\0"),
    (frontend.CopyData(b"1\n"), b"d\0\0\0\x061\n"),
    (frontend.CopyDone(), b"c\0\0\0\x04"),
]

OPEN_ENDED: tuple[type, ...] = (
    frontend.CopyData,
    frontend.SASLResponse,
    frontend.GSSResponse,
    frontend.CancelRequest,
    backend.AuthenticationGSSContinue,
    backend.AuthenticationSASLContinue,
    backend.AuthenticationSASLFinal,
    backend.BackendKeyData,
)
"""Whose last field goes on to the end of the message: a longer or shorter body may be another message."""
