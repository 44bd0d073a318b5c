/* SPDX-License-Identifier: MIT
 *
 * A firmware image as a command: `build/firmware-test/bin/lm3s-raw OPTION...` behaves like build/miniproxy.
 *
 * The image is the file of the same name with .elf behind it; its board is known by the name. What goes where:
 *
 *   arguments, MINIPROXY_NET         the command line of semihosting (tests/firmware/image/entry.c)
 *   tap=NAME in MINIPROXY_NET        the cable of the Ethernet chip
 *   standard error of the firmware   the UART, which is this command's standard error
 *   standard input and output        descriptors 3 and 4 of the emulator, opened by semihosting
 *   signals                          an octet each on the UART (tests/firmware/image/posix.c)
 *   exit status                      that of the emulator
 *
 * The emulator ends with this process, whatever ends it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STDIN_OF_GUEST = 3, STDOUT_OF_GUEST = 4, ABOVE = 10, ARGUMENTS_MAX = 40, TEXT_MAX = 1 << 18 };

static const struct {
    int signal;
    char octet;
} octets[] = {{SIGTERM, 'T'}, {SIGINT, 'I'}, {SIGHUP, 'H'}, {SIGUSR1, '1'}, {SIGUSR2, 'P'}, {SIGWINCH, 'C'}};

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "launcher: %s: %s\n", what, strerror(errno));
    exit(125);
}

/* ---- The emulator's arguments */

/* Room for an encoded command line. */
struct text {
    char data[TEXT_MAX];
    size_t len;
};

static struct text line;

static void put(char c)
{
    if (line.len + 1 == sizeof line.data) {
        errno = E2BIG;
        fail("arguments");
    }
    line.data[line.len++] = c;
}

/* Commas would have to be doubled for the emulator, and blanks separate words. */
static void put_word(const char *word)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./:_-=";
    static const char digits[] = "0123456789ABCDEF";

    put(' ');
    if (*word == '\0') put('%');
    for (; *word != '\0'; word++) {
        unsigned char c = (unsigned char)*word;

        if (strchr(plain, c) != NULL) {
            put((char)c);
        } else {
            put('%');
            put(digits[c >> 4]);
            put(digits[c & 15]);
        }
    }
}

static void put_variable(const char *name)
{
    const char *value = getenv(name);
    char both[4096];

    if (value == NULL) return;
    if (snprintf(both, sizeof both, "%s=%s", name, value) >= (int)sizeof both) {
        errno = E2BIG;
        fail(name);
    }
    put_word(both);
}

/* -nic of the tap device in MINIPROXY_NET, or none. */
static void name_nic(char *out, size_t room, bool lm3s)
{
    const char *net = getenv("MINIPROXY_NET"), *tap = net == NULL ? NULL : strstr(net, "tap=");
    int len = tap == NULL ? 0 : (int)strcspn(tap += 4, " ");

    if (tap == NULL) snprintf(out, room, "none");
    else
        snprintf(out, room, "tap,ifname=%.*s,script=no,downscript=no,model=%s", len, tap,
                 lm3s ? "stellaris" : "lan9118");
}

static void build(char *arguments[ARGUMENTS_MAX], char **argv)
{
    static char image[4096], nic[256], semihosting[TEXT_MAX + 64];
    bool lm3s = strstr(strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') : argv[0], "lm3s") != NULL;
    const char *qemu = getenv("QEMU");
    char *fixed[] = {(char *)(uintptr_t)(qemu != NULL ? qemu : "qemu-system-arm"),
                     "-M",
                     lm3s ? "lm3s6965evb" : "mps2-an385",
                     "-display",
                     "none",
                     "-monitor",
                     "none",
                     "-chardev",
                     "stdio,id=uart,signal=off",
                     "-serial",
                     "chardev:uart",
                     "-kernel",
                     image,
                     "-nic",
                     nic,
                     "-semihosting-config",
                     semihosting,
                     NULL};

    snprintf(image, sizeof image, "%s.elf", argv[0]);
    name_nic(nic, sizeof nic, lm3s);
    put_variable("MINIPROXY_NET");
    put_variable("MINIPROXY_LINK");
    put_word("--");
    for (argv++; *argv != NULL; argv++) put_word(*argv);
    snprintf(semihosting, sizeof semihosting, "enable=on,target=native,arg=image%s", line.data);
    memcpy(arguments, fixed, sizeof fixed);
}

/* ---- The emulator */

_Noreturn static void become_emulator(char **arguments, int uart, int messages, const sigset_t *mask)
{
    int in = fcntl(STDIN_FILENO, F_DUPFD, ABOVE), out = fcntl(STDOUT_FILENO, F_DUPFD, ABOVE);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == 1) exit(125);
    setpgid(0, 0);
    if (dup2(in, STDIN_OF_GUEST) < 0 || dup2(out, STDOUT_OF_GUEST) < 0 || dup2(uart, STDIN_FILENO) < 0 ||
        dup2(STDERR_FILENO, STDOUT_FILENO) < 0 || dup2(messages, STDERR_FILENO) < 0)
        fail("descriptors");
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(arguments[0], arguments);
    fail(arguments[0]);
}

/* What the emulator says of itself, but for what it always says: of the board's timers, and without a cable. */
static void pass_messages_on(FILE *messages)
{
    char text[1024];

    while (fgets(text, sizeof text, messages) != NULL)
        if (strstr(text, "Timer with period zero") == NULL && strstr(text, "has no peer") == NULL) fputs(text, stderr);
}

/* The exit status, once it has ended. */
static int serve(pid_t emulator, int uart, int signals)
{
    struct signalfd_siginfo info;
    int status;

    for (;;) {
        if (read(signals, &info, sizeof info) != sizeof info) continue;
        for (size_t i = 0; i < sizeof octets / sizeof *octets; i++)
            if ((uint32_t)octets[i].signal == info.ssi_signo && write(uart, &octets[i].octet, 1) < 0) continue;
        if (info.ssi_signo == SIGCHLD && waitpid(emulator, &status, WNOHANG) == emulator)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

/* Descriptors that the emulator's own must not be confused with. */
static void make_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
    for (int i = 0; i < 2; i++) {
        int low = ends[i];

        ends[i] = fcntl(low, F_DUPFD_CLOEXEC, ABOVE);
        close(low);
    }
}

int main(int argc, char **argv)
{
    char *arguments[ARGUMENTS_MAX];
    int uart[2], messages[2], signals, status;
    sigset_t caught, before;
    pid_t emulator;

    (void)argc;
    build(arguments, argv);
    make_pipe(uart);
    make_pipe(messages);
    sigemptyset(&caught);
    sigaddset(&caught, SIGCHLD);
    for (size_t i = 0; i < sizeof octets / sizeof *octets; i++) sigaddset(&caught, octets[i].signal);
    sigprocmask(SIG_BLOCK, &caught, &before);
    signal(SIGPIPE, SIG_IGN);
    emulator = fork();
    if (emulator < 0) fail("fork");
    if (emulator == 0) become_emulator(arguments, uart[0], messages[1], &before);
    close(uart[0]);
    close(messages[1]);
    signals = signalfd(-1, &caught, SFD_CLOEXEC);
    if (signals < 0) fail("signalfd");
    status = serve(emulator, uart[1], signals);
    pass_messages_on(fdopen(messages[0], "r"));
    return status;
}
