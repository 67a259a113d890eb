from preprocessing.websearch.command import main

main()
