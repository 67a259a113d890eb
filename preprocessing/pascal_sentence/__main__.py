from preprocessing.pascal_sentence.command import main

main()
