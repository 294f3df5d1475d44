/*
 * A C libmilter filter that answers as it is told: the reference for what an MTA must hear when a
 * filter has made up its mind.
 *
 *   cc -o libmilter-scripted libmilter_scripted.c -lmilter -lpthread    (Debian: libmilter-dev)
 *   ./libmilter-scripted unix:/tmp/socket ACTIONS STEPS SCRIPT
 *
 * ACTIONS and STEPS are what it agrees on. SCRIPT has a letter for each answer in turn: c continue,
 * a accept, t defer, h add a header and continue. A callback that owes none takes none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <libmilter/mfapi.h>

static unsigned long wanted_actions;
static unsigned long wanted_steps;
static const char *script;

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps,
    unsigned long f2, unsigned long f3, unsigned long *want_actions, unsigned long *want_steps,
    unsigned long *want_f2, unsigned long *want_f3)
{
    (void)ctx, (void)f2, (void)f3;
    *want_actions = actions & wanted_actions;
    *want_steps = steps & wanted_steps;
    *want_f2 = 0;
    *want_f3 = 0;
    return SMFIS_CONTINUE;
}

static sfsistat answer(SMFICTX *ctx, unsigned long waived_by)
{
    static char reply[] = "Please try again later";
    static char code[] = "451", status[] = "4.7.1", name[] = "X-Scripted", value[] = "yes";

    if (wanted_steps & waived_by)
        return SMFIS_NOREPLY;
    switch (*script ? *script++ : 'c') {
    case 'a':
        return SMFIS_ACCEPT;
    case 'h':
        (void)smfi_addheader(ctx, name, value);
        return SMFIS_CONTINUE;
    case 't':
        (void)smfi_setreply(ctx, code, status, reply);
        return SMFIS_TEMPFAIL;
    default:
        return SMFIS_CONTINUE;
    }
}

static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *address)
{
    (void)name, (void)address;
    return answer(ctx, SMFIP_NR_CONN);
}

static sfsistat on_helo(SMFICTX *ctx, char *argument)
{
    (void)argument;
    return answer(ctx, SMFIP_NR_HELO);
}

static sfsistat on_mail(SMFICTX *ctx, char **arguments)
{
    (void)arguments;
    return answer(ctx, SMFIP_NR_MAIL);
}

static sfsistat on_rcpt(SMFICTX *ctx, char **arguments)
{
    (void)arguments;
    return answer(ctx, SMFIP_NR_RCPT);
}

static sfsistat on_data(SMFICTX *ctx)
{
    return answer(ctx, SMFIP_NR_DATA);
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
    (void)name, (void)value;
    return answer(ctx, SMFIP_NR_HDR);
}

static sfsistat on_end_of_header(SMFICTX *ctx)
{
    return answer(ctx, SMFIP_NR_EOH);
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *piece, size_t length)
{
    (void)piece, (void)length;
    return answer(ctx, SMFIP_NR_BODY);
}

static sfsistat on_end_of_message(SMFICTX *ctx)
{
    return answer(ctx, 0);
}

int main(int argc, char **argv)
{
    struct smfiDesc filter;

    if (argc != 5) {
        fprintf(stderr, "usage: %s unix:PATH ACTIONS STEPS SCRIPT\n", argv[0]);
        return 2;
    }
    wanted_actions = strtoul(argv[2], NULL, 0);
    wanted_steps = strtoul(argv[3], NULL, 0);
    script = argv[4];
    memset(&filter, 0, sizeof filter);
    filter.xxfi_name = "scripted";
    filter.xxfi_version = SMFI_VERSION;
    filter.xxfi_flags = SMFIF_ADDHDRS;
    filter.xxfi_negotiate = on_negotiate;
    filter.xxfi_connect = on_connect;
    filter.xxfi_helo = on_helo;
    filter.xxfi_envfrom = on_mail;
    filter.xxfi_envrcpt = on_rcpt;
    filter.xxfi_data = on_data;
    filter.xxfi_header = on_header;
    filter.xxfi_eoh = on_end_of_header;
    filter.xxfi_body = on_body;
    filter.xxfi_eom = on_end_of_message;
    if (smfi_setconn(argv[1]) == MI_FAILURE || smfi_register(filter) == MI_FAILURE)
        return 1;
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
