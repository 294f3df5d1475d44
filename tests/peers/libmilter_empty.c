/*
 * The peer that greygate's CPU time per session is measured beside: a C libmilter filter whose
 * callbacks do nothing, and that defers every recipient. It asks for no protocol options, as
 * filters written against libmilter's manual do.
 *
 *   cc -O2 -o libmilter-empty libmilter_empty.c -lmilter -lpthread      (Debian: libmilter-dev)
 *   ./libmilter-empty inet:8895@127.0.0.1
 */
#include <stdio.h>
#include <string.h>
#include <libmilter/mfapi.h>

static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *address)
{
    (void)ctx, (void)name, (void)address;
    return SMFIS_CONTINUE;
}

static sfsistat on_helo(SMFICTX *ctx, char *argument)
{
    (void)ctx, (void)argument;
    return SMFIS_CONTINUE;
}

static sfsistat on_mail(SMFICTX *ctx, char **arguments)
{
    (void)ctx, (void)arguments;
    return SMFIS_CONTINUE;
}

static sfsistat on_rcpt(SMFICTX *ctx, char **arguments)
{
    (void)ctx, (void)arguments;
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
    filter.xxfi_name = "empty";
    filter.xxfi_version = SMFI_VERSION;
    filter.xxfi_connect = on_connect;
    filter.xxfi_helo = on_helo;
    filter.xxfi_envfrom = on_mail;
    filter.xxfi_envrcpt = on_rcpt;
    if (smfi_setconn(argv[1]) == MI_FAILURE || smfi_register(filter) == MI_FAILURE)
        return 1;
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
