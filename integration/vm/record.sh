# Reads the guest's records from the console of the virtual machine. Sourced by powercut.sh and record_test.sh.

# Prints the whole records of a console on standard input, without their end mark. The console is a terminal: lines end in CR LF, a
# login prompt may stand before a record, and after a power cut the virtual machine's tool writes its own words where the guest
# stopped, even in the middle of a record.
whole_records() {
  tr -d '\r' | sed -n -E \
    's/^(.* login: )?((taking|taken|removing|removed|checked|resumed|broken) .*|filled|emptied) ;$/\2/p'
}
