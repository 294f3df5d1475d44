/*
 * The floor that greygate's CPU time per session is measured above: one thread, epoll, no memory but
 * a buffer, and not a byte looked at that it can do without. It reads every frame to its end, says
 * "continue" where it owes a status, and defers at RCPT or at the end of the message.
 *
 *   cc -O2 -o floor floor.c
 *   ./floor PORT STEPS rcpt|end          (STEPS: the protocol flags to ask for, 0x1f000 and so on)
 */
#define _GNU_SOURCE /* accept4 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PREFIX 5            /* length and kind of a frame */
#define OFFER 12            /* version, actions, steps */
#define BUFFER (256 * 1024)
#define DESCRIPTORS 65536
#define DEFERRAL "451 4.7.1 Greylisted, please try again later"

/* Where a connection is in its stream of frames. */
struct peer {
    unsigned char begun[PREFIX + OFFER]; /* of the frame, as far as it is looked at */
    uint32_t have;                       /* bytes of that */
    uint32_t left;                       /* bytes of the frame that are still to come and not looked at */
    uint32_t steps;                      /* what was agreed */
};

static struct peer peers[DESCRIPTORS];
static unsigned char input[BUFFER];
static unsigned char output[BUFFER];
static size_t filled;
static uint32_t wanted;
static unsigned char deferred;

static uint32_t number(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void say(unsigned char kind, const void *payload, size_t length)
{
    uint32_t prefix = htonl((uint32_t)length + 1);

    if (filled + PREFIX + length > sizeof output)
        abort(); /* more commands in one read than any MTA sends */
    memcpy(output + filled, &prefix, 4);
    output[filled + 4] = kind;
    memcpy(output + filled + PREFIX, payload, length);
    filled += PREFIX + length;
}

/* Whether a status is owed for a command. */
static int owes(uint32_t steps, unsigned char kind)
{
    switch (kind) {
    case 'C': return !(steps & 0x1000);
    case 'H': return !(steps & 0x2000);
    case 'M': return !(steps & 0x4000);
    case 'R': return !(steps & 0x8000);
    case 'T': return !(steps & 0x10000);
    case 'L': return !(steps & 0x80);
    case 'N': return !(steps & 0x40000);
    case 'B': return !(steps & 0x80000);
    case 'E': return 1;
    default: return 0;
    }
}

/* A frame has come to its end; false when it was the last one. */
static int answer(struct peer *peer)
{
    unsigned char kind = peer->begun[4];

    if (kind == 'Q')
        return 0;
    if (kind == 'O') {
        uint32_t terms[3] = {htonl(6), 0, 0};
        peer->steps = number(peer->begun + PREFIX + 8) & wanted;
        terms[2] = htonl(peer->steps);
        say('O', terms, sizeof terms);
    } else if (owes(peer->steps, kind)) {
        if (kind == deferred)
            say('y', DEFERRAL, sizeof DEFERRAL); /* its NUL ends the reply */
        else
            say('c', NULL, 0);
    }
    return 1;
}

/* Takes what has come; false when the connection is to be closed. */
static int take(struct peer *peer, const unsigned char *bytes, size_t length)
{
    while (length > 0) {
        uint32_t looked_at = PREFIX;
        uint32_t part;

        if (peer->have >= PREFIX && peer->begun[4] == 'O')
            looked_at = PREFIX + OFFER;
        if (peer->have < looked_at) {
            part = looked_at - peer->have < length ? looked_at - peer->have : (uint32_t)length;
            memcpy(peer->begun + peer->have, bytes, part);
            peer->have += part;
            bytes += part, length -= part;
            if (peer->have == PREFIX) {
                uint32_t frame = number(peer->begun);
                if (frame < 1 || (peer->begun[4] == 'O' && frame < 1 + OFFER))
                    return 0;
                peer->left = frame - 1 - (peer->begun[4] == 'O' ? OFFER : 0);
                if (peer->begun[4] == 'O')
                    continue;
            }
            if (peer->have < looked_at)
                return 1;
        }
        part = peer->left < length ? peer->left : (uint32_t)length;
        bytes += part, length -= part;
        peer->left -= part;
        if (peer->left > 0)
            return 1;
        peer->have = 0;
        if (!answer(peer))
            return 0;
    }
    return 1;
}

/* One read, one write; false when the connection is to be closed. */
static int serve(int descriptor)
{
    ssize_t length = read(descriptor, input, sizeof input);
    int goes_on;

    if (length <= 0)
        return length < 0 && (errno == EAGAIN || errno == EINTR);
    filled = 0;
    goes_on = take(&peers[descriptor], input, (size_t)length);
    if (filled > 0 && write(descriptor, output, filled) != (ssize_t)filled)
        return 0;
    return goes_on;
}

static void welcome(int epoll, int listener)
{
    struct epoll_event event = {.events = EPOLLIN};
    int one = 1;
    int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (descriptor < 0)
        return;
    if (descriptor >= DESCRIPTORS) {
        close(descriptor);
        return;
    }
    memset(&peers[descriptor], 0, sizeof peers[descriptor]);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    event.data.fd = descriptor;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) < 0)
        close(descriptor);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLIN};
    int one = 1;
    int listener;
    int epoll;

    if (argc != 4) {
        fprintf(stderr, "usage: %s PORT STEPS rcpt|end\n", argv[0]);
        return 2;
    }
    wanted = (uint32_t)strtoul(argv[2], NULL, 0);
    deferred = strcmp(argv[3], "rcpt") == 0 ? 'R' : 'E';
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    event.data.fd = listener;
    if (listener < 0 || epoll < 0
        || bind(listener, (struct sockaddr *)&address, sizeof address) < 0
        || listen(listener, 1024) < 0
        || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0) {
        perror("floor");
        return 1;
    }
    for (;;) {
        struct epoll_event ready[256];
        int count = epoll_wait(epoll, ready, 256, -1);

        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd == listener)
                welcome(epoll, listener);
            else if (!serve(ready[i].data.fd))
                close(ready[i].data.fd);
        }
    }
}
