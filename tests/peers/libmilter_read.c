/*
 * The peer that greygate's CPU time for a message is measured beside: a C libmilter filter that only
 * reads, and defers at the end of the message. It asks to be spared the replies that decide nothing,
 * as a filter written with care does.
 *
 *   cc -O2 -o libmilter-read libmilter_read.c -lmilter -lpthread        (Debian: libmilter-dev)
 *   ./libmilter-read inet:8896@127.0.0.1
 */
#include <stdio.h>
#include <string.h>
#include <libmilter/mfapi.h>

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps,
    unsigned long f2, unsigned long f3, unsigned long *want_actions, unsigned long *want_steps,
    unsigned long *want_f2, unsigned long *want_f3)
{
    (void)ctx, (void)actions, (void)f2, (void)f3;
    *want_actions = 0;
    *want_steps = steps & (SMFIP_NOUNKNOWN | SMFIP_NOEOH | SMFIP_NR_CONN | SMFIP_NR_HELO
        | SMFIP_NR_MAIL | SMFIP_NR_HDR | SMFIP_NR_BODY);
    *want_f2 = 0;
    *want_f3 = 0;
    return SMFIS_CONTINUE;
}

/* The status of a callback that owes none. */
static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *address)
{
    (void)ctx, (void)name, (void)address;
    return SMFIS_NOREPLY;
}

static sfsistat on_helo(SMFICTX *ctx, char *argument)
{
    (void)ctx, (void)argument;
    return SMFIS_NOREPLY;
}

static sfsistat on_mail(SMFICTX *ctx, char **arguments)
{
    (void)ctx, (void)arguments;
    return SMFIS_NOREPLY;
}

static sfsistat on_rcpt(SMFICTX *ctx, char **arguments)
{
    (void)ctx, (void)arguments;
    return SMFIS_CONTINUE;
}

static sfsistat on_data(SMFICTX *ctx)
{
    (void)ctx;
    return SMFIS_CONTINUE;
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
    (void)ctx, (void)name, (void)value;
    return SMFIS_NOREPLY;
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *piece, size_t length)
{
    (void)ctx, (void)piece, (void)length;
    return SMFIS_NOREPLY;
}

static sfsistat on_end_of_message(SMFICTX *ctx)
{
    (void)ctx;
    return SMFIS_TEMPFAIL;
}

int main(int argc, char **argv)
{
    struct smfiDesc filter;

    if (argc != 2) {
        fprintf(stderr, "usage: %s inet:PORT@HOST\n", argv[0]);
        return 2;
    }
    memset(&filter, 0, sizeof filter);
    filter.xxfi_name = "read";
    filter.xxfi_version = SMFI_VERSION;
    filter.xxfi_negotiate = on_negotiate;
    filter.xxfi_connect = on_connect;
    filter.xxfi_helo = on_helo;
    filter.xxfi_envfrom = on_mail;
    filter.xxfi_envrcpt = on_rcpt;
    filter.xxfi_data = on_data;
    filter.xxfi_header = on_header;
    filter.xxfi_body = on_body;
    filter.xxfi_eom = on_end_of_message;
    if (smfi_setconn(argv[1]) == MI_FAILURE || smfi_register(filter) == MI_FAILURE)
        return 1;
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
