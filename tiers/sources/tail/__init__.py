"""The `tail` source: log files by globs, each line once, whatever becomes of the files.

    walk        which files are there now          door    the file system
    names       which of them rotation made        marks   hashes of parts of a text
    matching    which of them is what (the table)  generation   what is known of one
    following   looks, and whose turn it is        reading      whole lines of one
    source      keys, thread, watch, the way into the intake

Sameness needs content; difference may be seen by anything. Two looks saw the same generation of a
log only if the bytes that can be compared agree. Names, times and device numbers decide nothing:
they only make looking cheap.
"""
