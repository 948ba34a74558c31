#!/usr/bin/env perl
# Sisimai as a contender of bench/classifier.py; the same dialogue as bench/contender.py. Argument: a file that names
# the messages, one path a line. Each line of numbers on standard input is answered by one line: processor seconds,
# reports seen, the slowest message's number, its seconds. Works with version 4 (make) and 5 (rise).
use strict;
use warnings;
use Time::HiRes qw(clock);
use Sisimai;

$| = 1;
my $call = Sisimai->can('rise') || Sisimai->can('make');
my @options = (delivered => 1);
push @options, (vacation => 1) if Sisimai->can('rise');

open(my $listing, '<', $ARGV[0]) or die "$ARGV[0]: $!\n";
my @loaded;
while (my $path = <$listing>) {
    chomp $path;
    open(my $file, '<:raw', $path) or die "$path: $!\n";
    local $/;
    push @loaded, scalar <$file>;
}
print "ready\n";

while (my $line = <STDIN>) {
    my @numbers = split ' ', $line;
    my ($found, $slowest, $slowest_s) = (0, $numbers[0], 0);
    my $begin = clock();
    my $before = $begin;
    for my $number (@numbers) {
        my $seen = length $loaded[$number] ? eval { $call->('Sisimai', \$loaded[$number], @options) } : undef;
        $found += 1 if $seen && grep { ($_->reason // '') !~ /^(?:vacation|feedback)$/ } @$seen;
        my $now = clock();
        ($slowest, $slowest_s) = ($number, $now - $before) if $now - $before > $slowest_s;
        $before = $now;
    }
    printf "%.6f %d %d %.6f\n", $before - $begin, $found, $slowest, $slowest_s;
}
