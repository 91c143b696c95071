# What systemd does for a service with a socket, in little: makes the listening sockets and holds them, starts the
# program with them as descriptors 3 and following, starts it again whenever it ends, and hears what it says of itself.
#
#   perl service-manager.pl NOTIFY_SOCKET NAME=PATH[,NAME=PATH...] PROGRAM ARGUMENT...
#
# Reports one line an event: "started PID", "ended PID", "told STATE". SIGTERM ends the program, then this.
# Node can pass no listening socket on without taking connections from it itself; perl is a part of every Debian system.
use strict;
use warnings;
use IO::Socket::UNIX;
use POSIX qw(dup2 :sys_wait_h);
use Socket;

$| = 1;
my ($notify, $sockets, @command) = @ARGV;
my @sockets = map { [split /=/, $_, 2] } split /,/, $sockets;
my @listeners = map {
    IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $_->[1], Listen => 128) or die "Cannot listen on $_->[1]: $!"
} @sockets;
my $local = $notify =~ s/^@/\0/r;
my $ear = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $local) or die "Cannot hear on $notify: $!";

my $stopping = 0;
my $child = 0;
$SIG{TERM} = sub { $stopping = 1; kill "TERM", $child if $child; };
$SIG{CHLD} = sub { };

sub start {
    my $manager = $$;
    $child = fork // die "Cannot fork: $!";
    if ($child == 0) {
        $SIG{$_} = "DEFAULT" for qw(TERM CHLD);
        $^F = 3 + @listeners;
        # Out of the way first: a listener may have the number that another one shall have.
        my @spare = map { POSIX::fcntl($_, F_DUPFD(), 64) } @listeners;
        dup2($spare[$_], 3 + $_) for 0 .. $#spare;
        POSIX::close($_) for @spare;
        $ENV{LISTEN_PID} = $$;
        $ENV{LISTEN_FDS} = scalar @listeners;
        $ENV{LISTEN_FDNAMES} = join ":", map { $_->[0] } @sockets;
        $ENV{NOTIFY_SOCKET} = $notify;
        # The program ends with this one.
        $ENV{OCI_WORKER_PARENT_PID} = $manager;
        exec @command or die "Cannot start $command[0]: $!";
    }
    print "started $child\n";
}

sub F_DUPFD { return 0 }

start();
while (1) {
    my $readable = "";
    vec($readable, fileno($ear), 1) = 1;
    # Not forever: a child may end between the look at it and the wait.
    if (select($readable, undef, undef, 0.1) > 0) {
        $ear->recv(my $state, 4096);
        print "told $state\n";
    }
    if (waitpid($child, WNOHANG) == $child) {
        print "ended $child\n";
        exit 0 if $stopping;
        start();
    }
}
