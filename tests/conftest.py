"""One thread: the tensors of tests are small, and threads cost them more than they give."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it when it is first imported
