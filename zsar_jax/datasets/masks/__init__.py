"""Where region planes come from: one module for each format of masks.

A source is opened once, in the process that plans the build, and gives each clip a small value
that can be pickled: what that clip's masks are, still unread. The process that encodes the clip
then draws its planes.
"""
