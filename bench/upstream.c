/*
 * The upstream of the bench: one thread, one epoll, answers from memory, and every request body is read to its end.
 *
 *     upstream PORT COUNTERS
 *
 * COUNTERS is a file of one `struct counters`; the bench maps the same file, so that reading it costs nothing here.
 *
 *     POST                      204, once the whole body (Content-Length or chunked) has come
 *     GET  .../answer/1m        1 MiB with Content-Length
 *     GET  .../answer/10m       10 MiB with Content-Length
 *     GET  .../answer/10m-chunked   10 MiB in chunks of 32 KiB
 *     GET  anything else        1 KiB with Content-Length
 *
 * It is a measuring instrument, not a server: it speaks to the proxies of the bench only, and drops whoever pipelines.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MAX = 16 * 1024, READ_SIZE = 256 * 1024, CHUNK_SIZE = 32 * 1024, EVENTS_MAX = 256 };

/* bench/upstream.py reads these four numbers in this order. */
struct counters {
    uint64_t connections, requests, body_bytes, answer_bytes;
};

struct answer {
    const char *path_end; /* NULL: any path */
    char *bytes;
    size_t length;
};

enum state { IN_HEAD, IN_SIZED_BODY, IN_CHUNK_SIZE, IN_CHUNK_DATA, IN_CHUNK_END, IN_TRAILERS };

struct connection {
    int fd;
    enum state state;
    size_t body_left;      /* bytes left of the body, or of the chunk */
    bool line_has_bytes;   /* while in the trailers */
    bool waits_for_room;   /* the socket's send buffer is full */
    const char *unsent;
    size_t unsent_length;
    size_t head_length;
    char head[HEAD_MAX + 1];
};

static struct counters *counters;
static struct answer written, answers[4];
static int epoll_fd;
static char scratch[READ_SIZE];

static const char head_format[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                  "Date: Sat, 01 Jan 2000 00:00:00 GMT\r\n";

static struct answer sized_answer(const char *path_end, size_t size) {
    struct answer answer = {.path_end = path_end, .bytes = malloc(size + 256)};
    answer.length = sprintf(answer.bytes, "%sContent-Length: %zu\r\n\r\n", head_format, size);
    for (size_t i = 0; i < size; i++)
        answer.bytes[answer.length++] = 'a' + i % 26;
    return answer;
}

static struct answer chunked_answer(const char *path_end, size_t size) {
    struct answer answer = {.path_end = path_end, .bytes = malloc(size + size / CHUNK_SIZE * 16 + 256)};
    char *to = answer.bytes + sprintf(answer.bytes, "%sTransfer-Encoding: chunked\r\n\r\n", head_format);
    for (size_t sent = 0; sent < size; sent += CHUNK_SIZE) {
        to += sprintf(to, "%x\r\n", CHUNK_SIZE);
        memset(to, 'x', CHUNK_SIZE);
        to = stpcpy(to + CHUNK_SIZE, "\r\n");
    }
    to = stpcpy(to, "0\r\n\r\n");
    answer.length = to - answer.bytes;
    return answer;
}

static void make_answers(void) {
    written.bytes = strdup("HTTP/1.1 204 No Content\r\nDate: Sat, 01 Jan 2000 00:00:00 GMT\r\n\r\n");
    written.length = strlen(written.bytes);
    answers[0] = sized_answer("/answer/1m", 1 << 20);
    answers[1] = sized_answer("/answer/10m", 10 << 20);
    answers[2] = chunked_answer("/answer/10m-chunked", 10 << 20);
    answers[3] = sized_answer(NULL, 1 << 10);
}

/* The first line is "METHOD TARGET HTTP/1.1". */
static const struct answer *choose_answer(const char *head) {
    if (strncmp(head, "POST ", 5) == 0)
        return &written;
    const char *target = strchr(head, ' ');
    size_t length = target ? strcspn(++target, " \r") : 0;
    const struct answer *answer = answers;
    for (; answer->path_end; answer++) {
        size_t end = strlen(answer->path_end);
        if (length >= end && memcmp(target + length - end, answer->path_end, end) == 0)
            break;
    }
    return answer;
}

static void watch(struct connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, operation, c->fd, &event);
}

/* False: the connection is broken. */
static bool send_unsent(struct connection *c) {
    while (c->unsent_length) {
        ssize_t sent = send(c->fd, c->unsent, c->unsent_length, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN)
                return false;
            if (!c->waits_for_room)
                watch(c, EPOLL_CTL_MOD, EPOLLOUT);
            c->waits_for_room = true;
            return true;
        }
        counters->answer_bytes += sent;
        c->unsent += sent;
        c->unsent_length -= sent;
    }
    if (c->waits_for_room)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    c->waits_for_room = false;
    return true;
}

static bool answer_request(struct connection *c) {
    const struct answer *answer = choose_answer(c->head);
    counters->requests++;
    c->unsent = answer->bytes;
    c->unsent_length = answer->length;
    c->state = IN_HEAD;
    c->head_length = 0;
    return send_unsent(c);
}

/* Takes bytes up to the end of the head; sets the state that the body asks for. Returns how many were used, 0 if broken. */
static size_t take_head(struct connection *c, const char *bytes, size_t length) {
    size_t room = HEAD_MAX - c->head_length, taken = length < room ? length : room;
    size_t search_from = c->head_length > 3 ? c->head_length - 3 : 0, had = c->head_length;
    memcpy(c->head + had, bytes, taken);
    c->head_length += taken;
    char *end = memmem(c->head + search_from, c->head_length - search_from, "\r\n\r\n", 4);
    if (!end)
        return c->head_length < HEAD_MAX ? taken : 0;
    end += 4;
    *end = 0;
    taken = end - c->head - had;
    c->head_length = end - c->head;
    c->body_left = 0;
    const char *size = strcasestr(c->head, "\r\nContent-Length:");
    if (strcasestr(c->head, "\r\nTransfer-Encoding:")) {
        c->state = IN_CHUNK_SIZE;
    } else if (size && (c->body_left = strtoull(size + strlen("\r\nContent-Length:"), NULL, 10))) {
        c->state = IN_SIZED_BODY;
    } else if (taken < length || !answer_request(c)) {
        return 0;
    }
    return taken;
}

static size_t take_body(struct connection *c, size_t length) {
    size_t taken = length < c->body_left ? length : c->body_left;
    c->body_left -= taken;
    counters->body_bytes += taken;
    return taken;
}

static int hex_digit(char byte) { return byte <= '9' ? byte - '0' : (byte | 32) - 'a' + 10; }

/* False: the connection is broken. */
static bool take(struct connection *c, const char *bytes, size_t length) {
    while (length) {
        size_t taken = 1;
        bool whole = false;
        switch (c->state) {
        case IN_HEAD:
            if (c->unsent_length || !(taken = take_head(c, bytes, length)))
                return false;
            break;
        case IN_SIZED_BODY:
            taken = take_body(c, length);
            whole = c->body_left == 0;
            break;
        case IN_CHUNK_SIZE:
            if (*bytes == '\n') {
                c->state = c->body_left ? IN_CHUNK_DATA : IN_TRAILERS;
                c->line_has_bytes = false;
            } else if (*bytes != '\r') {
                c->body_left = c->body_left * 16 + hex_digit(*bytes);
            }
            break;
        case IN_CHUNK_DATA:
            taken = take_body(c, length);
            if (c->body_left == 0)
                c->state = IN_CHUNK_END;
            break;
        case IN_CHUNK_END:
            if (*bytes == '\n')
                c->state = IN_CHUNK_SIZE;
            break;
        case IN_TRAILERS:
            whole = *bytes == '\n' && !c->line_has_bytes;
            c->line_has_bytes = *bytes != '\n' && (c->line_has_bytes || *bytes != '\r');
            break;
        }
        bytes += taken;
        length -= taken;
        if (whole && (length || !answer_request(c)))
            return false;
    }
    return true;
}

static void serve(struct connection *c, uint32_t events) {
    bool sound = !(events & EPOLLOUT) || send_unsent(c);
    if (sound && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        ssize_t got = recv(c->fd, scratch, sizeof scratch, 0);
        sound = got > 0 ? take(c, scratch, got) : got < 0 && errno == EAGAIN;
    }
    if (!sound) {
        close(c->fd);
        free(c);
    }
}

static void accept_all(int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        counters->connections++;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) {
        perror("listen");
        exit(1);
    }
    return listener;
}

static struct counters *map_counters(const char *path) {
    int fd = open(path, O_RDWR);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    return at;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: upstream PORT COUNTERS\n");
        return 2;
    }
    counters = map_counters(argv[2]);
    make_answers();
    epoll_fd = epoll_create1(0);
    int listener = listen_on(atoi(argv[1]));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS_MAX];
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                serve(events[i].data.ptr, events[i].events);
            else
                accept_all(listener);
        }
    }
}
