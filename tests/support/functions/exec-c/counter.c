/* A counter in C, straight on the wire: methods incr(by = 1) and get, remote and local state.
 *
 * Reads frames from the descriptor in EDGED_FD: 4 bytes of length, then one msgpack array. The state is
 * one unsigned integer as msgpack. Whatever it does not understand ends it: the daemon starts another. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static unsigned char in[1 << 16], out[1 << 12];
static const unsigned char *at, *end;
static size_t used;
static uint64_t local_state;
static int fd;

static void need(size_t n) { if ((size_t)(end - at) < n) exit(3); }

static uint64_t big_endian(int n) {
    uint64_t value = 0;
    need(n);
    while (n--) value = value << 8 | *at++;
    return value;
}

static int64_t get_int(void) {
    need(1);
    unsigned char tag = *at++;
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return (int8_t)tag;
    if (tag >= 0xcc && tag <= 0xcf) return (int64_t)big_endian(1 << (tag - 0xcc));
    if (tag >= 0xd0 && tag <= 0xd3) {
        int shift = 64 - (8 << (tag - 0xd0));
        return (int64_t)(big_endian(1 << (tag - 0xd0)) << shift) >> shift;
    }
    exit(3);
}

/* nil gives length 0 and NULL. */
static const unsigned char *get_bytes(size_t *length) {
    need(1);
    unsigned char tag = *at++;
    *length = 0;
    if (tag == 0xc0) return NULL;
    if (tag >= 0xa0 && tag <= 0xbf) *length = tag & 31;
    else if (tag == 0xc4 || tag == 0xd9) *length = big_endian(1);
    else if (tag == 0xc5 || tag == 0xda) *length = big_endian(2);
    else if (tag == 0xc6 || tag == 0xdb) *length = big_endian(4);
    else exit(3);
    need(*length);
    at += *length;
    return at - *length;
}

static size_t get_count(unsigned char fix, unsigned char wide) {
    need(1);
    unsigned char tag = *at++;
    if ((tag & 0xf0) == fix) return tag & 15;
    if (tag == wide) return big_endian(2);
    exit(3);
}

static void skip(void) {
    need(1);
    size_t n;
    unsigned char tag = *at;
    if (tag >= 0x80 && tag <= 0x8f) for (n = 2 * get_count(0x80, 0xde); n--;) skip();
    else if (tag >= 0x90 && tag <= 0x9f) for (n = get_count(0x90, 0xdc); n--;) skip();
    else if (tag == 0xc2 || tag == 0xc3) at++;
    else if (tag == 0xca || tag == 0xcb) at++, big_endian(tag == 0xca ? 4 : 8);
    else if (tag == 0xc0 || (tag >= 0xa0 && tag <= 0xbf) || (tag >= 0xc4 && tag <= 0xc6) || (tag >= 0xd9 && tag <= 0xdb)) get_bytes(&n);
    else get_int();
}

static void put(const void *data, size_t length) {
    if (used + length > sizeof out) exit(3);
    memcpy(out + used, data, length);
    used += length;
}

static void put_byte(int byte) { unsigned char c = (unsigned char)byte; put(&c, 1); }
static void put_uint(uint64_t value) {
    put_byte(0xcf);
    for (int shift = 56; shift >= 0; shift -= 8) put_byte((int)(value >> shift & 255));
}

static void put_text(const char *text) { put_byte(0xd9); put_byte((int)strlen(text)); put(text, strlen(text)); }
static void put_uint_as_bytes(uint64_t value) { put_byte(0xc4); put_byte(9); put_uint(value); }

static void start_frame(int elements, int type, uint64_t id) {
    used = 4;
    put_byte(0x90 | elements);
    put_byte(type);
    put_uint(id);
}

static void send_frame(void) {
    size_t sent = 0;
    for (int i = 0; i < 4; i++) out[i] = (unsigned char)((used - 4) >> (24 - 8 * i));
    while (sent < used) {
        ssize_t n = write(fd, out + sent, used - sent);
        if (n <= 0) exit(0);
        sent += (size_t)n;
    }
}

static void send_error(uint64_t id, int code, const char *text) {
    start_frame(4, 18, id);
    put_byte(0xcd); put_byte(code >> 8); put_byte(code & 255); put_text(text);
    send_frame();
}

static void read_exactly(unsigned char *to, size_t length) {
    while (length) {
        ssize_t n = read(fd, to, length);
        if (n <= 0) exit(0); /* the daemon has gone */
        to += n;
        length -= (size_t)n;
    }
}

static uint64_t unpacked(const unsigned char *data, size_t length) {
    at = data;
    end = data + length;
    return (uint64_t)get_int();
}

/* [16, id, function, session, method, call_id, timeout_ms, body, meta, blob] */
static void invoke(size_t elements) {
    size_t method_length, body_length, mode_length = 0, blob_length = 0, key_length, ignored;
    const unsigned char *mode = NULL, *blob = NULL;
    uint64_t id = (uint64_t)get_int();
    skip();                                             /* function */
    get_bytes(&ignored);                                /* session */
    const unsigned char *method = get_bytes(&method_length);
    skip();                                             /* call id */
    skip();                                             /* timeout */
    const unsigned char *body = get_bytes(&body_length);
    if (elements > 8 && at < end && *at != 0xc0) {
        for (size_t n = get_count(0x80, 0xde); n--;) {
            const unsigned char *key = get_bytes(&key_length);
            if (key_length == 4 && !memcmp(key, "mode", 4)) mode = get_bytes(&mode_length); else skip();
        }
    } else if (elements > 8) at++;
    if (elements > 9) blob = get_bytes(&blob_length);

    int local = mode_length == 5 && !memcmp(mode, "local", 5), get = method_length == 3 && !memcmp(method, "get", 3);
    int incr = method_length == 0 || (method_length == 4 && !memcmp(method, "incr", 4));
    if (!get && !incr) { send_error(id, 206, "there are: incr, get"); return; }
    uint64_t n = local ? local_state : blob ? unpacked(blob, blob_length) : 0;
    int64_t by = 1;
    if (body_length && *body != 0xc0) {
        at = body;
        end = body + body_length;
        if ((*body & 0xf0) == 0x90) { if (get_count(0x90, 0xdc)) by = get_int(); } else by = get_int();
    }
    if (incr) n += (uint64_t)by;
    if (local) local_state = n;
    start_frame(incr && !local ? 5 : get ? 4 : 3, 17, id);
    put_uint_as_bytes(n);
    if (get) { put_byte(0x81); put_text("shared"); put_byte(0xc3); } /* nothing to commit, nothing to count */
    else if (!local) { put_byte(0xc0); put_uint_as_bytes(n); }
    send_frame();
}

/* [32, id, verb, params, blob] */
static void request(size_t elements) {
    size_t length, blob_length;
    uint64_t id = (uint64_t)get_int();
    const unsigned char *verb = get_bytes(&length);
    skip();
    const unsigned char *blob = elements > 4 ? get_bytes(&blob_length) : NULL;
    int snapshot = length == 15 && !memcmp(verb, "worker.snapshot", 15);
    if (length == 11 && !memcmp(verb, "worker.load", 11)) local_state = blob ? unpacked(blob, blob_length) : 0;
    start_frame(snapshot ? 4 : 3, 33, id);
    put_byte(0x80);
    if (snapshot) put_uint_as_bytes(local_state);
    send_frame();
}

int main(void) {
    static const char hello[] = "\x92\x01\x85" "\xa5" "proto\x01" "\xa4" "role\xa6" "worker" "\xa4" "name\xa6" "exec-c"
        "\xa7" "default\xa4" "incr" "\xa7" "methods\x82\xa4" "incr\x81\xa6" "shared\xc2\xa3" "get\x81\xa6" "shared\xc3";
    fd = atoi(getenv("EDGED_FD"));
    used = 4;
    put(hello, sizeof hello - 1);
    send_frame();
    puts("exec-c is up");
    fflush(stdout);
    for (;;) {
        read_exactly(in, 4);
        size_t length = (size_t)in[0] << 24 | in[1] << 16 | in[2] << 8 | in[3];
        if (length > sizeof in) return 3;
        read_exactly(in, length);
        at = in;
        end = in + length;
        size_t elements = get_count(0x90, 0xdc);
        int64_t type = get_int();
        if (type == 16) invoke(elements); else if (type == 32) request(elements);
    }
}
