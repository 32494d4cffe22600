"""`python -m pipeline` is `dff`."""

from pipeline.start import main

if __name__ == "__main__":
    main()
